"""Viewers and requests at an instance that does not hold the agent's connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from psycopg_pool import PoolTimeout
from support.agents import CuttableLink, Operator, until
from support.api_calls import call_api
from support.asking_agents import AskingAgent
from support.cases import cases
from support.frames import HELLO, attach, close_code, greet, next_message, read_bytes
from support.server import Account, Api, Enrolled, running
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from onsembl.api.instances.instance import Instance
from onsembl.api.instances.relay_connection import RelayChannel, RelayConnection, connect_to
from onsembl.api.instances.relay_socket import RelaySession
from onsembl.api.terminals import terminal_socket
from onsembl.api.terminals.archiver import Archiver
from onsembl.api.terminals.catch_up import NOT_YET_ARCHIVED
from onsembl.api.terminals.stream_resumption import read
from onsembl.fleet.instance_messages import AgentConnected
from onsembl.protocol.byte_times import ByteTimes
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.files import PART_CHARACTERS
from onsembl.protocol.ids import AgentId
from onsembl.protocol.messages import AGENT_SUBPROTOCOL, encode_output
from onsembl.protocol.relay_streams import OutgoingStreams
from onsembl.sql import archive
from onsembl.tasks.worker import WorkerSettings

pytestmark = pytest.mark.no_worker
PUBLIC = "https://onsembl.example"


@dataclass
class Center:
    """Two instances that reach each other, and an operator's token."""

    one: Api
    two: Api
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@pytest.fixture
async def center(settings) -> AsyncGenerator[Center]:
    settings = replace(settings, public_url=PUBLIC)
    first = replace(settings, worker=WorkerSettings())
    async with running(first, reachable=True) as one, running(settings, reachable=True) as two:
        yield Center(one, two, (await one.operator()).access_token)


def relayed(api: Api, agent: Enrolled):
    """The relayed terminal of the agent at this instance."""
    return next(terminal for id, terminal in api.services.relays.terminals.items() if str(id) == agent.id)


def served(api: Api, agent: Enrolled) -> int:
    """How many instances relay the agent's terminal from this one."""
    return sum(str(stream.agent_id) == agent.id for stream in api.services.relays.served)


async def a_viewer_elsewhere_sees_the_same_bytes(center: Center):
    """Many viewers at the wrong instance are one stream; each begins where it wants, and follows."""
    one, two = center.one, center.two
    agent = await one.enrol("same")
    async with two.agent_socket(agent) as socket, AsyncExitStack() as stack:
        stream = (await greet(socket))["stream_id"]
        await socket.send(encode_output(0, b"hello \xff\x00"))
        viewers = [await stack.enter_async_context(one.terminal_socket(agent.id)) for _ in range(5)]
        for offset, viewer in enumerate(viewers):
            place = {"stream_id": stream, "offset": offset} if offset else {}
            attached = await attach(viewer, center.token, times=True, **place)
            assert (await next_message(viewer, "times"))["offsets"][0] == offset
            assert (attached["mode"], attached["offset"]) == ("exact" if offset else "tail", offset)
            assert await read_bytes(viewer, 8 - offset) == b"hello \xff\x00"[offset:]
        await socket.send(encode_output(8, b"again"))
        for viewer in viewers:
            assert await read_bytes(viewer, 5) == b"again"
        assert served(two, agent) == 1
        assert one.services.relays.connections == 1
        await socket.send(json.dumps({"type": "resized", "columns": 99, "rows": 33, "offset": 13}))
        for viewer in viewers:
            assert (await next_message(viewer, "resized"))["columns"] == 99


async def a_large_output_comes_whole(center: Center):
    """More than the window comes in order, with no byte lost, also where the ring has less."""
    one, two = center.one, center.two
    agent = await one.enrol("large")
    data = bytes(range(256)) * 4096
    async with two.agent_socket(agent) as socket, one.terminal_socket(agent.id) as viewer:
        await greet(socket)
        await attach(viewer, center.token)
        for at in range(0, len(data), 32768):
            await socket.send(encode_output(at, data[at : at + 32768]))
        assert await read_bytes(viewer, len(data)) == data


async def an_operator_elsewhere_has_control(center: Center):
    """Taking and passing control, keys and sizes: the owner decides, over all instances."""
    one, two = center.one, center.two
    agent = await one.enrol("control")
    here, there = str(uuid4()), str(uuid4())
    async with (
        two.agent_socket(agent) as socket,
        one.terminal_socket(agent.id) as far,
        two.terminal_socket(agent.id) as near,
    ):
        await greet(socket)
        await attach(near, center.token, client_id=here)
        await attach(far, center.token, client_id=there)
        await near.send(json.dumps({"type": "take_control", "client_id": here}))
        for viewer in (near, far):
            assert (await next_message(viewer, "controlled"))["controller"]["client_id"] == here
        await far.send(json.dumps({"type": "keys", "client_id": there, "seq": 1, "text": "no"}))
        assert (await next_message(far, "keys_taken"))["refused"] == "not_in_control"
        await far.send(json.dumps({"type": "take_control", "client_id": there, "from_another": True}))
        for viewer in (near, far):
            assert (await next_message(viewer, "controlled"))["controller"]["client_id"] == there
        await far.send(json.dumps({"type": "keys", "client_id": there, "seq": 2, "text": "ls\r"}))
        keys = await next_message(socket, "keys")
        assert keys["text"] == "ls\r"
        await socket.send(json.dumps({"type": "keys_taken", "client_id": there, "seq": 2}))
        assert (await next_message(far, "keys_taken"))["refused"] is None
        await far.send(json.dumps({"type": "resize", "columns": 101, "rows": 31}))
        assert (await next_message(socket, "resize"))["columns"] == 101
        await far.send(json.dumps({"type": "release_control"}))
        assert (await next_message(near, "controlled"))["controller"] is None


async def the_relay_follows_an_agent_that_moves(center: Center, *, told: bool = True):
    """A viewer's instance follows the agent to a third, and to itself, without a byte lost or shown twice."""
    one, two = center.one, center.two
    agent = await one.enrol("moves" if told else "unheard")
    settings = two.services.settings
    async with running(settings, reachable=True) as three, one.terminal_socket(agent.id) as viewer:
        async with two.agent_socket(agent) as socket:
            stream = (await greet(socket))["stream_id"]
            await socket.send(encode_output(0, b"first "))
            await attach(viewer, center.token)
            assert await read_bytes(viewer, 6) == b"first "
            async with three.agent_socket(agent) as other:
                at = (await greet(other, id=stream, start=0, end=13))["resume_offset"]
                await other.send(encode_output(at, b"first second "[at:]))
                if not told:
                    await one.services.relays.check(())
                assert await read_bytes(viewer, 7) == b"second "
                assert relayed(one, agent).channel is not None
                assert served(two, agent) == 0
                async with one.agent_socket(agent) as last:
                    await greet(last, id=stream, start=0, end=13)
                    assert await close_code(viewer) == CloseCode.ELSEWHERE
                    async with one.terminal_socket(agent.id) as again:
                        attached = await attach(again, center.token, stream_id=stream, offset=13)
                        assert attached["mode"] == "exact"


async def the_relay_finds_out_itself_that_an_agent_has_moved(center: Center):
    """No message came: the comparison after a heartbeat finds the new owner, and the past one is left."""
    with pytest.MonkeyPatch.context() as patch:
        original = Instance._agent_connected

        def deaf(instance: Instance, connected) -> None:
            if connected.instance_id == instance._id:
                original(instance, connected)

        patch.setattr(Instance, "_agent_connected", deaf)
        await the_relay_follows_an_agent_that_moves(center, told=False)


async def late_messages_of_an_agents_connections_change_nothing(center: Center):
    """The messages that an agent has connected, first here and then to another instance, come while this instance asks
    the other one for its terminal."""
    one, two = center.one, center.two
    agent = await one.enrol("late")
    late: list[tuple[Instance, AgentConnected]] = []
    came = asyncio.Event()
    apply, watch = Instance._agent_connected, RelayConnection.watch

    def hold(instance: Instance, connected: AgentConnected) -> None:
        if instance._services is one.services:
            late.append((instance, connected))
            if len(late) == 2:
                came.set()

    def watch_and_hear(*arguments) -> RelayChannel:
        channel = watch(*arguments)
        for instance, connected in late:
            asyncio.get_running_loop().call_soon(apply, instance, connected)
        return channel

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Instance, "_agent_connected", hold)
        patch.setattr(RelayConnection, "watch", watch_and_hear)
        async with one.agent_socket(agent) as socket:
            await greet(socket)
        async with two.agent_socket(agent) as socket, one.terminal_socket(agent.id) as viewer:
            await greet(socket)
            await came.wait()
            assert (await attach(viewer, center.token))["mode"] == "tail"
            assert served(two, agent) == 1


async def a_viewer_stays_while_its_agents_instance_is_lost(center: Center):
    """The connection between the instances breaks: the viewer waits, and goes on with the next byte."""
    one, two = center.one, center.two
    agent = await one.enrol("broken")
    page = str(uuid4())
    async with two.agent_socket(agent) as socket, one.terminal_socket(agent.id) as viewer:
        await greet(socket)
        await socket.send(encode_output(0, b"one "))
        await attach(viewer, center.token, client_id=page)
        assert await read_bytes(viewer, 4) == b"one "
        await viewer.send(json.dumps({"type": "take_control", "client_id": page}))
        assert (await next_message(viewer, "controlled"))["controller"]["client_id"] == page
        for connection, _ in list(one.services.relays._running.values()):
            connection._socket.transport.abort()
        await socket.send(encode_output(4, b"two "))
        assert await read_bytes(viewer, 4) == b"two "
        # The page kept its control, since it came back within the grace time.
        await viewer.send(json.dumps({"type": "keys", "client_id": page, "seq": 1, "text": "x"}))
        assert (await next_message(socket, "keys"))["text"] == "x"


async def a_relay_that_hangs_is_given_up(center: Center):
    """The agent's instance is silent: the viewer is told that nobody has control, goes on when it is back in time, and
    is sent away otherwise."""
    one = center.one
    agent = await one.enrol("hangs")
    page = str(uuid4())
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, seconds in (("PING_SECONDS", 0.5), ("PONG_SECONDS", 600.0)):
            patch.setattr(f"onsembl.api.instances.relay_connection.{name}", seconds)
        link = await stack.enter_async_context(CuttableLink(""))
        settings = replace(center.two.services.settings, address=link.url.removeprefix("http://"))
        silent = await stack.enter_async_context(running(settings))
        link.lead_to(silent.url)
        socket = await stack.enter_async_context(silent.agent_socket(agent))
        await greet(socket)
        viewer = await stack.enter_async_context(one.terminal_socket(agent.id))
        await attach(viewer, center.token, client_id=page)
        await viewer.send(json.dumps({"type": "take_control", "client_id": page}))
        assert (await next_message(viewer, "controlled"))["controller"]["client_id"] == page
        for name in ("CONNECT_SECONDS", "PONG_SECONDS"):
            patch.setattr(f"onsembl.api.instances.relay_connection.{name}", 0.5)
        for connection, _ in list(one.services.relays._running.values()):
            connection._socket.ping_timeout = 0.5
        link.hold("answers")
        await socket.send(encode_output(0, b"late"))
        assert (await next_message(viewer, "controlled"))["controller"] is None
        link.mend()
        assert await read_bytes(viewer, 4) == b"late"
        patch.setattr("onsembl.api.instances.relays.FOLLOW_SECONDS", 0.0)
        link.hold("requests")
        assert await close_code(viewer) == CloseCode.ELSEWHERE
        link.mend()


async def a_relaying_instance_that_is_silent_is_let_go(center: Center):
    """Nothing comes from the instance of a viewer in control, and its connection stays open: the agent's instance ends
    the stream, and the control of the viewer's page. The page goes on when its instance is heard again."""
    one = center.one
    agent = await one.enrol("unheard-of")
    here, there = str(uuid4()), str(uuid4())
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for module in ("relay_connection", "relay_socket"):
            patch.setattr(f"onsembl.api.instances.{module}.PING_SECONDS", 0.2)
        patch.setattr("onsembl.api.instances.relay_connection.PONG_SECONDS", 600.0)  # it misses nothing itself
        link = await stack.enter_async_context(CuttableLink(""))
        settings = replace(center.two.services.settings, address=link.url.removeprefix("http://"))
        owner = await stack.enter_async_context(running(settings))
        link.lead_to(owner.url)
        stack.callback(link.mend)  # the owner ends only with its connections
        socket = await stack.enter_async_context(owner.agent_socket(agent))
        await greet(socket)
        near = await stack.enter_async_context(owner.terminal_socket(agent.id))
        await attach(near, center.token, client_id=here)
        far = await stack.enter_async_context(one.terminal_socket(agent.id))
        await attach(far, center.token, client_id=there)
        await far.send(json.dumps({"type": "take_control", "client_id": there}))
        assert (await next_message(near, "controlled"))["controller"]["client_id"] == there
        patch.setattr("onsembl.protocol.control.GRACE_SECONDS", 0.0)
        link.hold("requests")
        assert (await next_message(near, "controlled"))["controller"] is None
        assert served(owner, agent) == 0
        link.mend()
        await socket.send(encode_output(0, b"again"))
        assert await read_bytes(far, 5) == b"again"


class Behind:
    """A viewer at another instance, whose relay has taken nothing of late: the agent's ring has moved on."""

    def __init__(self, center: Center, agent: Enrolled, socket, viewer, patch: pytest.MonkeyPatch) -> None:
        self.viewer, self.patch = viewer, patch
        self._center, self._agent, self._socket = center, agent, socket
        self._granted: list[tuple[OutgoingStreams, int, int]] = []

    async def write(self, start: int, data: bytes) -> None:
        """Have more bytes archived than the ring holds."""
        for at in range(0, len(data), 32768):
            await self._socket.send(encode_output(start + at, data[at : at + 32768]))
        while (await next_message(self._socket, "acknowledged"))["offset"] < start + len(data):
            pass
        assert self._center.two.services.hub.terminals[AgentId(UUID(self._agent.id))].ring.start > start

    async def fall_behind(self, data: bytes) -> None:
        """Write the stream's first bytes, while the owner gets no credit."""
        self.patch.setattr(OutgoingStreams, "grant", lambda *credit: self._granted.append(credit))
        await self.write(0, data)

    def go_on(self, grant=OutgoingStreams.grant) -> None:
        """Let the owner have the credit."""
        self.patch.setattr(OutgoingStreams, "grant", grant)
        for credit in self._granted:
            grant(*credit)
        for stream in self._center.two.services.relays.served:
            stream.wake()  # type: ignore[attr-defined]


@asynccontextmanager
async def relayed_with_small_ring(center: Center, name: str) -> AsyncGenerator[Behind]:
    agent = await center.one.enrol(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(center.two.services.hub, "ring_bytes", 65536)
        async with center.two.agent_socket(agent) as socket, center.one.terminal_socket(agent.id) as viewer:
            await greet(socket)
            await attach(viewer, center.token)
            yield Behind(center, agent, socket, viewer, patch)


async def a_relay_that_falls_behind_gets_the_bytes_from_the_archive(center: Center):
    """The ring of the agent's instance moves on while the relay takes nothing, and while it is away: its viewers have
    every byte."""
    data = bytes(range(251)) * 4000
    cut = 3 * len(data) // 4
    connects = asyncio.Event()

    async def connect_later(*arguments) -> RelayConnection:
        await connects.wait()
        return await connect_to(*arguments)

    async with relayed_with_small_ring(center, "behind") as behind:
        await behind.fall_behind(data[:cut])
        behind.go_on()
        assert await bytes_or_gap(behind.viewer, cut) == data[:cut]

        behind.patch.setattr("onsembl.api.instances.relays.FOLLOW_SECONDS", 600.0)
        behind.patch.setattr("onsembl.api.instances.relays.connect_to", connect_later)
        for connection, _ in list(center.one.services.relays._running.values()):
            connection._socket.transport.abort()
        await behind.write(cut, data[cut:])
        connects.set()
        assert await bytes_or_gap(behind.viewer, len(data) - cut) == data[cut:]


async def what_the_archive_lacks_is_a_gap_at_the_relay(center: Center):
    """Bytes that have left the ring and the archive are shown as missing, and the stream goes on."""
    data = bytes(range(251)) * 2000
    async with relayed_with_small_ring(center, "gap") as behind:
        await behind.fall_behind(data)
        behind.patch.setattr("onsembl.api.terminals.catch_up.read", nothing_archived)
        behind.go_on()
        seen = await bytes_or_gap(behind.viewer, len(data))
        assert isinstance(seen, dict) and 0 < seen["offset"] < len(data)
        rest = len(data) - seen["offset"]
        assert await bytes_or_gap(behind.viewer, rest) == data[-rest:]


async def nothing_archived(*_: object) -> tuple[bytes, ByteTimes]:
    return b"", ByteTimes()


async def a_relay_whose_archive_cannot_be_read_asks_again(center: Center):
    """The database does not answer when bytes are to be read back: the stream begins again, and no byte is lost."""
    data = bytes(range(251)) * 2000
    failed = 0

    async def read_later(*arguments) -> tuple[bytes, ByteTimes]:
        nonlocal failed
        failed += 1
        if failed <= 2:
            raise PoolTimeout("couldn't get a connection")
        return await read(*arguments)

    async with relayed_with_small_ring(center, "unread") as behind:
        await behind.fall_behind(data)
        behind.patch.setattr("onsembl.api.terminals.catch_up.read", read_later)
        behind.go_on()
        assert await bytes_or_gap(behind.viewer, len(data)) == data
        assert failed > 2


async def bytes_that_wait_for_the_archive_are_no_gap(center: Center):
    """A viewer is behind the ring of its relay, and the agent's instance has yet to archive the bytes: the viewer waits
    for them, and is sent away when that takes too long."""
    one, two = center.one, center.two
    agent = await one.enrol("unarchived")
    data = bytes(range(251)) * 800
    allowed, looked = asyncio.Event(), asyncio.Event()
    write, end = Archiver._write_round, archive.end

    async def write_later(archiver: Archiver) -> None:
        await allowed.wait()
        await write(archiver)

    async def look(*arguments) -> int:
        found = await end(*arguments)
        looked.set()
        return found

    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(Archiver, "_write_round", write_later)
        stack.callback(allowed.set)
        patch.setattr(one.services.relays, "_ring_bytes", 65536)
        socket = await stack.enter_async_context(two.agent_socket(agent))
        first, late, later = [await stack.enter_async_context(one.terminal_socket(agent.id)) for _ in range(3)]
        place = {"stream_id": (await greet(socket))["stream_id"], "offset": 0}
        await attach(first, center.token)
        for at in range(0, len(data), 25100):  # each when the first viewer, too, has the one before
            piece = data[at : at + 25100]
            await socket.send(encode_output(at, piece))
            assert await read_bytes(first, len(piece)) == piece
        assert relayed(one, agent).ring.start > 0

        patch.setattr("onsembl.api.terminals.catch_up.LOOKS", 1)
        with pytest.raises(ConnectionClosed, match=NOT_YET_ARCHIVED):
            await attach(late, center.token, **place)

        patch.setattr("onsembl.api.terminals.catch_up.LOOKS", 10_000)  # on a machine of any speed
        patch.setattr(archive, "end", look)
        attached = asyncio.create_task(attach(later, center.token, **place))
        attached.add_done_callback(lambda _: looked.set())
        await looked.wait()
        allowed.set()
        assert (await attached)["mode"] == "exact"
        assert await read_bytes(later, len(data)) == data


async def bytes_or_gap(viewer, count: int) -> bytes | dict:
    """The next bytes; the message instead when it is a gap."""
    seen = b""
    async with asyncio.timeout(60):
        while len(seen) < count:
            frame = await viewer.recv()
            if isinstance(frame, bytes):
                seen += frame
            elif (message := json.loads(frame))["type"] == "gap":
                return message
    return seen


async def an_owner_that_does_not_answer_is_given_up(center: Center):
    """The agent's instance takes the question for the terminal and says nothing: the viewer is sent away."""
    one, two = center.one, center.two
    agent = await one.enrol("silent")
    async with two.agent_socket(agent) as socket, one.terminal_socket(agent.id) as viewer:
        await greet(socket)
        await attach(viewer, center.token)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RelaySession, "_watch", silence)
            patch.setattr("onsembl.api.instances.relays.ATTACH_SECONDS", 0.1)
            patch.setattr("onsembl.api.instances.relays.FOLLOW_SECONDS", 0.0)
            for connection, _ in list(one.services.relays._running.values()):
                connection._socket.transport.abort()
            assert await close_code(viewer) == CloseCode.ELSEWHERE
        async with one.terminal_socket(agent.id) as again:
            await attach(again, center.token)


async def silence(*_: object) -> None:
    return


async def the_last_viewer_ends_the_stream(center: Center):
    """A terminal that nobody watches is relayed no more."""
    one, two = center.one, center.two
    agent = await one.enrol("left")
    with pytest.MonkeyPatch.context() as patch:
        async with two.agent_socket(agent) as socket:
            await greet(socket)
            async with one.terminal_socket(agent.id) as viewer:
                await attach(viewer, center.token)
                assert served(two, agent) == 1
                patch.setattr("onsembl.api.instances.relays.LINGER_SECONDS", 0.01)

            async def gone() -> bool:
                return served(two, agent) == 0 and all(str(id) != agent.id for id in one.services.relays.terminals)

            await until(gone, "the stream is not relayed")


async def an_instance_that_cannot_be_reached_is_done_without(center: Center):
    """The viewer is told to come back, while the agent counts as connected there."""
    one = center.one
    agent = await one.enrol("apart")
    async with running(replace(center.two.services.settings, address="127.0.0.1:1")) as apart:
        async with apart.agent_socket(agent) as socket, one.terminal_socket(agent.id) as viewer:
            await greet(socket)
            await viewer.send(json.dumps({"type": "attach", "access_token": center.token}))
            assert await close_code(viewer) == CloseCode.ELSEWHERE


async def requests_reach_an_agent_elsewhere(center: Center):
    """Steering, answers, a cancel and an emergency stop at the wrong instance reach the agent; its files are shown."""
    one, two = center.one, center.two
    operator = Operator(one, Account("admin@example.org", center.token))
    agent = await one.enrol("reached", "claude")
    hello = {**HELLO, "kind": "claude", "takes_answers": True, "takes_steers": True, "shows_files": True}
    async with two.agent_socket(agent) as socket:
        await socket.send(json.dumps(hello))
        await next_message(socket, "welcome")
        command = await operator.send(agent.id, "do it", conversation="latest")
        asking = AskingAgent(agent, socket, command)
        await asking.tell(type="open_requests", requests=[])
        assert (await next_message(socket, "offer"))["command_id"] == command["id"]
        started = {"command_id": command["id"], "started_at": datetime.now(UTC).isoformat(), "output_start": 0}
        await asking.tell(type="accepted", **started)
        await operator.until_state(command, "running")

        looking = asyncio.create_task(call_api(operator, "GET", f"/v1/agents/{agent.id}/files"))
        asked = await next_message(socket, "look")
        text = json.dumps({"path": "", "kind": "text", "text": "x\u0000" * 200_000})
        for number, at in enumerate(range(0, len(text), PART_CHARACTERS)):
            piece = text[at : at + PART_CHARACTERS]
            last = at + PART_CHARACTERS >= len(text)
            await asking.tell(type="look_part", request_id=asked["request_id"], number=number, text=piece, last=last)
        assert (await looking)["text"] == "x\0" * 200_000
        looking = asyncio.create_task(call_api(operator, "GET", f"/v1/agents/{agent.id}/files", status=503))
        asked = await next_message(socket, "look")
        await asking.tell(type="look_part", request_id=asked["request_id"], number=0, text="rat", last=True)
        assert "not understood" in (await looking)["detail"]

        await operator.send(agent.id, "leave the tests", steer=True)
        assert (await next_message(socket, "steer"))["text"] == "leave the tests"
        request = await asking.ask()

        async def is_open() -> bool:
            answer = await one.http.get(f"/v1/attention/{request['request_id']}", headers=operator.headers)
            return answer.status_code == 200

        await until(is_open, "the request")
        body = {"digest": request["digest"], "decision": {"decision": "allow"}}
        await call_api(operator, "POST", f"/v1/attention/{request['request_id']}/answer", body)
        assert (await next_message(socket, "answer"))["decision"]["decision"] == "allow"
        await operator.cancel(command)
        assert (await next_message(socket, "cancel"))["command_id"] == command["id"]
        await call_api(operator, "POST", "/v1/halt", {"reason": "test"}, 202)
        await next_message(socket, "halt")
        await call_api(operator, "DELETE", "/v1/halt")
        await next_message(socket, "halt_lifted")


async def an_agents_path_is_the_same_door(center: Center):
    """The agent may come by the path that has its id, with its own token."""
    one = center.one
    agent, other = await one.enrol("path"), await one.enrol("other")
    url = one.url.replace("http", "ws")
    for id, status in ((agent.id, 101), (other.id, 403), (str(uuid4()), 403)):
        try:
            async with connect(
                f"{url}/v1/agents/{id}/connection",
                additional_headers={"Authorization": f"Bearer {agent.access_token}"},
                subprotocols=[AGENT_SUBPROTOCOL],  # type: ignore[list-item]
                compression=None,
            ) as socket:
                assert (await greet(socket))["agent_id"] == agent.id
                assert status == 101
        except InvalidStatus as answer:
            assert answer.response.status_code == status


@cases(
    "scenario",
    [
        a_viewer_elsewhere_sees_the_same_bytes,
        a_large_output_comes_whole,
        an_operator_elsewhere_has_control,
        the_relay_follows_an_agent_that_moves,
        the_relay_finds_out_itself_that_an_agent_has_moved,
        late_messages_of_an_agents_connections_change_nothing,
        a_viewer_stays_while_its_agents_instance_is_lost,
        a_relay_that_hangs_is_given_up,
        a_relaying_instance_that_is_silent_is_let_go,
        a_relay_that_falls_behind_gets_the_bytes_from_the_archive,
        what_the_archive_lacks_is_a_gap_at_the_relay,
        a_relay_whose_archive_cannot_be_read_asks_again,
        bytes_that_wait_for_the_archive_are_no_gap,
        an_owner_that_does_not_answer_is_given_up,
        the_last_viewer_ends_the_stream,
        an_instance_that_cannot_be_reached_is_done_without,
        requests_reach_an_agent_elsewhere,
        an_agents_path_is_the_same_door,
    ],
)
async def test_viewers_at_another_instance(center: Center, scenario: Callable[[Center], Awaitable[None]]):
    """Each scenario says in its own words what holds for viewers at the wrong instance."""
    await scenario(center)


@pytest.mark.parametrize("viewers", [40, pytest.param(1000, marks=[pytest.mark.load, pytest.mark.timeout(900)])])
async def test_many_viewers_are_one_stream_for_each_other_instance(settings, monkeypatch, viewers):
    """Over four instances, the instance of the agent sends its bytes to three, however many viewers these have; and
    each viewer has every byte."""
    monkeypatch.setattr(terminal_socket, "FIRST_MESSAGE_SECONDS", 600.0)  # forty attach at once, when all are connected
    settings = replace(settings, public_url=PUBLIC)
    async with AsyncExitStack() as stack:
        instances = [await stack.enter_async_context(running(settings, reachable=True)) for _ in range(4)]
        owner = instances[0]
        agent, token = await owner.enrol("watched"), (await owner.operator()).access_token
        socket = await stack.enter_async_context(owner.agent_socket(agent))
        await greet(socket)
        sockets: list[ClientConnection] = []
        while len(sockets) < viewers:
            new = [
                await stack.enter_async_context(instances[number % 4].terminal_socket(agent.id)) for number in range(40)
            ]
            await asyncio.gather(*(attach(viewer, token) for viewer in new))
            sockets += new
        data = bytes(range(256)) * 64
        await socket.send(encode_output(0, data))
        assert all(seen == data for seen in await asyncio.gather(*(read_bytes(each, len(data)) for each in sockets)))
        relays = owner.services.relays
        assert (served(owner, agent), relays.sent) == (3, 3 * len(data))
        assert [api.services.relays.connections for api in instances] == [0, 1, 1, 1]
