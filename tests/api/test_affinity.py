"""Viewers of an agent at several instances: on Fly each is brought to its agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from support.agents import until
from support.cases import cases
from support.fly_proxy import FlyProxy
from support.frames import attach, close_code, greet, next_message, read_bytes
from support.server import Api, running
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from onsembl.api.instances.affinity import Affinity
from onsembl.api.instances.instance import Instance
from onsembl.fleet.instance_messages import AgentConnected
from onsembl.protocol.affinity import fly_address, machine_of, preferred
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId
from onsembl.protocol.messages import TERMINAL_SUBPROTOCOL, encode_output
from onsembl.sql import agents
from onsembl.sql.database import connect as connect_database

pytestmark = pytest.mark.no_worker
MACHINES = ("e2865", "148ed")
PUBLIC = "https://onsembl.example"
HERE = {"additional_headers": {"fly-replay-src": "instance=x;region=fra;t=0;state="}}
"""A request that was repeated once."""


@dataclass
class Center:
    """Two instances as on two machines of Fly, the proxy before them, and an operator."""

    one: Api
    two: Api
    proxy: FlyProxy
    token: str


@pytest.fixture
async def center(settings) -> AsyncGenerator[Center]:
    first, second = (
        replace(settings, public_url=PUBLIC, address=f"{fly_address(machine, 'onsembl')}:8400") for machine in MACHINES
    )
    async with running(first) as one, running(second) as two, FlyProxy({}) as proxy:
        yield Center(one, two, proxy, (await one.operator()).access_token)


def terminal_socket(url: str, agent_id: str, **kwargs) -> connect:
    return connect(
        url.replace("http", "ws") + f"/v1/agents/{agent_id}/terminal",
        subprotocols=[TERMINAL_SUBPROTOCOL],  # type: ignore[list-item]
        compression=None,
        **kwargs,
    )


async def viewers_come_to_the_machine_of_their_agent(center: Center):
    """A viewer that the proxy sends to either machine sees and controls its agent's terminal. Once it was repeated, a
    request is served where it arrives."""
    one, two, proxy = center.one, center.two, center.proxy
    agent = await one.enrol("come")
    async with two.agent_socket(agent) as socket:
        await greet(socket)
        await socket.send(encode_output(0, b"hello"))
        for machine, columns in zip(MACHINES, (100, 110), strict=True):
            proxy.first = machine
            async with terminal_socket(proxy.url, agent.id) as viewer:
                await attach(viewer, center.token, client_id=str(uuid4()))
                assert await read_bytes(viewer, 5) == b"hello"
                await viewer.send(json.dumps({"type": "resize", "columns": columns, "rows": 30}))
                assert (await next_message(socket, "resize"))["columns"] == columns
        assert (proxy.repeated, proxy.failed) == ([(MACHINES[0], MACHINES[1])], 0)
        repeated = {"fly-replay-src": "instance=148ed;region=fra;t=0;state="}
        async with terminal_socket(one.url, agent.id, additional_headers=repeated) as viewer:
            await viewer.send(json.dumps({"type": "attach", "access_token": center.token}))
            assert await close_code(viewer) == CloseCode.ELSEWHERE


async def a_viewer_follows_an_agent_that_moves(center: Center):
    """A viewer whose agent connects to another machine is closed, and goes on there with the next byte, even if that
    machine has yet to hear that the agent is not where it was a moment ago."""
    one, two, proxy = center.one, center.two, center.proxy
    agent = await one.enrol("moves")
    apply = Instance._agent_connected

    def hear(instance: Instance, connected: AgentConnected) -> None:
        if instance._services is not two.services:
            apply(instance, connected)

    async with AsyncExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(Instance, "_agent_connected", hear)
        socket = await stack.enter_async_context(one.agent_socket(agent))
        stream = (await greet(socket))["stream_id"]
        await socket.send(encode_output(0, b"first "))
        proxy.first = MACHINES[1]
        async with terminal_socket(proxy.url, agent.id) as viewer:
            await attach(viewer, center.token)
            assert await read_bytes(viewer, 6) == b"first "
            async with two.agent_socket(agent) as other:
                at = (await greet(other, id=stream, start=0, end=12))["resume_offset"]
                await other.send(encode_output(at, b"first second"[at:]))
                assert await close_code(viewer) == CloseCode.ELSEWHERE
                for machine in MACHINES:
                    proxy.first = machine
                    async with terminal_socket(proxy.url, agent.id) as again:
                        attached = await attach(again, center.token, stream_id=stream, offset=6)
                        assert attached["mode"] == "exact"
                        assert await read_bytes(again, 6) == b"second"
                while (await next_message(other, "acknowledged"))["offset"] < 12:
                    pass
    # Now it is nowhere: the first machine shows what came to the second.

    async def offline() -> bool:
        row = (await one.http.get(f"/v1/agents/{agent.id}", headers={"Authorization": f"Bearer {center.token}"})).json()
        return row["status"] == "offline"

    await until(offline, "offline")
    async with terminal_socket(one.url, agent.id, additional_headers={"fly-replay-src": "x"}) as late:
        assert (await attach(late, center.token, stream_id=stream, offset=3))["mode"] == "exact"
        assert await read_bytes(late, 9) == b"st second"


async def a_machine_that_cannot_be_reached_is_done_without(center: Center):
    """A request that cannot be repeated is refused where it arrived, while the agent counts as connected there."""
    one, two, proxy = center.one, center.two, center.proxy
    agent = await one.enrol("lost")
    async with two.agent_socket(agent) as socket:
        await greet(socket)
        proxy.first, proxy.machines[MACHINES[1]] = MACHINES[0], ""
        async with terminal_socket(proxy.url, agent.id) as viewer:
            await viewer.send(json.dumps({"type": "attach", "access_token": center.token}))
            assert await close_code(viewer) == CloseCode.ELSEWHERE
        assert proxy.failed == 1
        # The agent's own link goes round the lost machine as well.
        async with one.agent_socket(agent) as other:
            await greet(other)
            async with terminal_socket(proxy.url, agent.id) as viewer:
                assert (await attach(viewer, center.token))["mode"] == "tail"


async def a_request_that_cannot_be_repeated_is_relayed(center: Center):
    """Fly's proxy does not reach the agent's machine, and the machine that was asked does: it relays the terminal."""
    one, two, proxy = center.one, center.two, center.proxy
    agent = await one.enrol("relayed")
    reached: list[str] = []

    def resolve(url: str, *, host: str, port: int, **kwargs) -> connect:
        """Connect as on Fly, whose private network resolves the machines' names."""
        machine = machine_of(f"{host}:{port}")
        assert machine is not None
        reached.append(machine)
        target = urlsplit({MACHINES[0]: one.url, MACHINES[1]: two.url}[machine])
        return connect(url, host=target.hostname, port=target.port, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onsembl.api.instances.relay_connection.connect", resolve)
        async with two.agent_socket(agent) as socket:
            await greet(socket)
            await socket.send(encode_output(0, b"hello"))
            proxy.first, proxy.machines[MACHINES[1]] = MACHINES[0], ""
            async with terminal_socket(proxy.url, agent.id) as viewer:
                await attach(viewer, center.token, client_id=str(uuid4()))
                assert await read_bytes(viewer, 5) == b"hello"
                await viewer.send(json.dumps({"type": "resize", "columns": 101, "rows": 30}))
                assert (await next_message(socket, "resize"))["columns"] == 101
                assert len(two.services.relays.served) == 1
    assert (proxy.repeated, proxy.failed, reached) == ([MACHINES], 1, [MACHINES[1]])


async def a_message_that_is_missed_misleads_no_viewer(center: Center):
    """An instance that did not hear of an agent's connection elsewhere shows no old terminal, and closes its viewers
    once it listens again."""
    one, two = center.one, center.two
    agent = await one.enrol("missed")
    here = {"additional_headers": {"fly-replay-src": "x"}}

    async def offline() -> bool:
        async with two.services.pool.connection() as conn:
            row = await agents.get(conn, AgentId(UUID(agent.id)))
        return row is not None and row["status"] == "offline"

    async def goes_on(api: Api, **stream) -> str:
        """Connect, have two more bytes archived, and leave."""
        async with api.agent_socket(agent) as socket:
            welcome = await greet(socket, **stream)
            end = welcome["resume_offset"] + 2
            await socket.send(encode_output(end - 2, b"ab"))
            while (await next_message(socket, "acknowledged"))["offset"] < end:
                pass
        await until(offline, "offline")
        return welcome["stream_id"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Instance, "_agent_connected", lambda *_: None)
        stream = await goes_on(one)
        await goes_on(two, id=stream, start=2, end=4)
        async with terminal_socket(one.url, agent.id, **here) as viewer:
            await attach(viewer, center.token)
            assert await read_bytes(viewer, 4) == b"abab"
            await goes_on(two, id=stream, start=4, end=6)
            async with await connect_database(one.database_url) as conn:
                await conn.execute(
                    """select pg_terminate_backend(pid) from pg_stat_activity
                       where datname = current_database() and (query ilike 'listen %' or query = 'select 1')"""
                )
            assert await close_code(viewer) == CloseCode.ELSEWHERE


async def a_viewer_of_an_agent_whose_instance_seemed_dead_leaves(center: Center):
    """An instance whose heartbeat is late has its agents all the time: the viewers that another instance has taken
    meanwhile leave it at its next heartbeat, although the agent does not connect again."""
    one, two = center.one, center.two
    agent = await one.enrol("seemed")
    async with two.agent_socket(agent) as socket, AsyncExitStack() as stack:
        await greet(socket)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(one.services.affinity, "_dead_after", 0.0)
            viewer = await stack.enter_async_context(one.terminal_socket(agent.id, **HERE))
            await attach(viewer, center.token)
        await socket.send(encode_output(0, b"hello"))
        instance = Instance(one.services, one.services.presence.instance_id, *[None] * 2)  # type: ignore[arg-type]
        instance._beaten.set()
        comparing = asyncio.create_task(instance.compare_connections())
        assert await close_code(viewer) == CloseCode.ELSEWHERE
        comparing.cancel()


async def a_viewer_does_not_stay_where_its_agent_was_found_nowhere(center: Center):
    """The agent connects to another instance, which the first one hears of, just after that has looked where it is."""
    one, two = center.one, center.two
    for moment in (1, 2):
        agent = await one.enrol(f"meanwhile-{moment}")
        looks, heard = 0, asyncio.Event()
        async with AsyncExitStack() as stack:
            patch = stack.enter_context(pytest.MonkeyPatch.context())

            def hear(instance, connected, heard=heard, original=Instance._agent_connected) -> None:
                original(instance, connected)
                if instance._id == one.services.presence.instance_id:
                    heard.set()

            async def look(
                agent_ids, agent=agent, stack=stack, moment=moment, heard=heard, affinity=one.services.affinity
            ):
                nonlocal looks
                looks += 1
                found = await Affinity.elsewhere(affinity, agent_ids)
                if looks == moment:
                    await greet(await stack.enter_async_context(two.agent_socket(agent)))
                    await heard.wait()
                return found

            patch.setattr(Instance, "_agent_connected", hear)
            patch.setattr(Instance, "_release_absent", nothing)  # it would find the viewer later
            patch.setattr(one.services.affinity, "elsewhere", look)
            viewer = await stack.enter_async_context(one.terminal_socket(agent.id, **HERE))
            await viewer.send(json.dumps({"type": "attach", "access_token": center.token}))
            assert await close_code(viewer) == CloseCode.ELSEWHERE


async def nothing(_instance: Instance) -> None:
    return


async def an_id_that_no_agent_has_is_answered_as_one_that_is_not_connected(center: Center):
    """Before the sign-in, an unknown id and an agent that is not connected get the same answer at each machine."""
    one, two = center.one, center.two
    ids = [UUID((await one.enrol(f"agent-{number}")).id) for number in range(4)] + [uuid4() for _ in range(4)]
    for api, machine in zip((one, two), MACHINES, strict=True):
        for agent_id in ids:
            expected = preferred(MACHINES, agent_id)
            try:
                async with api.terminal_socket(str(agent_id)):
                    assert expected == machine
            except InvalidStatus as answer:
                assert answer.response.headers["fly-replay"] == f"instance={expected}" != f"instance={machine}"


@cases(
    "scenario",
    [
        viewers_come_to_the_machine_of_their_agent,
        a_viewer_follows_an_agent_that_moves,
        a_machine_that_cannot_be_reached_is_done_without,
        a_request_that_cannot_be_repeated_is_relayed,
        a_message_that_is_missed_misleads_no_viewer,
        a_viewer_of_an_agent_whose_instance_seemed_dead_leaves,
        a_viewer_does_not_stay_where_its_agent_was_found_nowhere,
        an_id_that_no_agent_has_is_answered_as_one_that_is_not_connected,
    ],
)
async def test_two_machines_on_fly(center: Center, scenario: Callable[[Center], Awaitable[None]]):
    """Each scenario says in its own words what holds at two machines behind Fly's proxy."""
    center.proxy.machines = dict(zip(MACHINES, (center.one.url, center.two.url), strict=True))
    center.proxy.repeated, center.proxy.failed, center.proxy.first = [], 0, None
    await scenario(center)


async def test_a_viewer_comes_back_until_it_is_right(settings):
    """Where the instances cannot reach each other, the one without the agent sends the viewer away."""
    async with (
        running(replace(settings, public_url=PUBLIC, address="127.0.0.1:1")) as one,
        running(replace(settings, public_url=PUBLIC, address="127.0.0.1:2")) as two,
    ):
        agent, operator = await one.enrol(), await one.operator()
        async with two.agent_socket(agent) as socket:
            await greet(socket)
            await socket.send(encode_output(0, b"hello"))
            async with one.terminal_socket(agent.id) as wrong:
                await wrong.send(json.dumps({"type": "attach", "access_token": operator.access_token}))
                assert await close_code(wrong) == CloseCode.ELSEWHERE
            async with two.terminal_socket(agent.id) as right:
                await attach(right, operator.access_token)
                assert await read_bytes(right, 5) == b"hello"
