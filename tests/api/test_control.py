"""Typing into a real program over a browser's socket: in order, once, by the controller only."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import pytest
from support.agents import CuttableLink, Operator, agent_running, read_until, until
from support.frames import HELLO_TEXT, attach, next_message
from support.server import running

from onsembl.protocol.control import GRACE_SECONDS
from onsembl.protocol.messages import encode_output
from onsembl.protocol.states import Role
from onsembl.sql.database import connect

pytestmark = pytest.mark.no_worker


class Page:
    """A terminal's socket with a page's id."""

    def __init__(self, socket, client_id: str | None = None) -> None:
        self.socket = socket
        self.client_id = client_id or str(uuid4())
        self.seq = 0
        self.controller_before: str | None = None

    async def take(self, *, from_another: bool = False) -> None:
        await self.say("take_control", client_id=self.client_id, from_another=from_another)

    async def type(self, text: str, seq: int | None = None, **fields) -> int:
        self.seq = seq if seq is not None else self.seq + 1
        await self.say("keys", client_id=self.client_id, seq=self.seq, text=text, **fields)
        return self.seq

    async def say(self, kind: str, **fields) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def told(self, kind: str) -> dict:
        """The next message of this type, without the output before it."""
        async with asyncio.timeout(60):
            while True:
                frame = await self.socket.recv()
                if isinstance(frame, str) and json.loads(frame)["type"] == kind:
                    return json.loads(frame)

    async def controller(self) -> str | None:
        return _client_id((await self.told("controlled"))["controller"])


def _client_id(writer: dict | None) -> str | None:
    return writer and writer["client_id"]


@asynccontextmanager
async def page_of(api, agent_id: str, account, client_id: str | None = None):
    async with api.terminal_socket(agent_id) as socket:
        page = Page(socket, client_id)
        attached = await attach(socket, account.access_token, client_id=page.client_id)
        page.controller_before = _client_id(attached["controlled"]["controller"])
        yield page


async def test_what_is_typed_reaches_the_program_and_its_echo_the_page(api, tmp_path):
    """A line, an end of input and an interrupt reach the program; each is answered, and the page shows the echo."""
    account = await api.operator(Role.OPERATOR)
    operator = Operator(api, account)
    async with agent_running(api, tmp_path) as agent, page_of(api, agent.id, account) as page:
        command = await operator.send(agent.id, "read line; echo got-$line; cat")
        await operator.until_state(command, "running")
        await page.take()
        assert await page.controller() == page.client_id
        await page.type("hällo\r")
        assert "hällo" in (await read_until(page.socket, "got-hällo".encode())).decode()
        assert (await page.type("more\r")) == 2
        taken = await page.told("keys_taken")
        assert (taken["seq"], taken["refused"]) == (2, None)
        await page.type("", interrupt=True)
        assert (await operator.until_state(command, "failed"))["signal"] == 2
        await page.type("x")
        while (taken := await page.told("keys_taken"))["seq"] != 4:
            pass
        assert taken["refused"] == "nothing_runs"


async def test_one_types_at_a_time_and_everyone_sees_who(api, tmp_path):
    """Control is requested, granted, taken over and released; every page shows the controller, and the audit log has
    each change."""
    ada, bob = await api.operator(Role.ADMIN), await api.operator(Role.OPERATOR)
    async with (
        agent_running(api, tmp_path) as agent,
        page_of(api, agent.id, ada) as one,
        page_of(api, agent.id, bob) as two,
    ):
        await one.take()
        assert [await page.controller() for page in (one, two)] == [one.client_id] * 2
        await two.take()
        waiting = (await one.told("controlled"))["waiting"]
        assert [writer["name"] for writer in waiting] == [bob.email]
        await two.type("no")
        assert (await two.told("keys_taken"))["refused"] == "not_in_control"
        await one.say("grant_control", to=two.client_id)
        assert await one.controller() == two.client_id
        await one.take(from_another=True)
        assert await one.controller() == one.client_id
        await one.say("release_control")
        assert await one.controller() is None

        assert await logged(api, 4) == [
            ("terminal.controlled", ada.email, {}),
            ("terminal.controlled", ada.email, {"given_to": bob.email}),
            ("terminal.control_taken_over", ada.email, {"from": bob.email}),
            ("terminal.control_ended", ada.email, {}),
        ]


async def logged(api, count: int) -> list[tuple[str, str, dict]]:
    """The audit log's entries about control, once there are `count` entries."""

    async def found() -> list[tuple[str, str, dict]] | None:
        async with await connect(api.database_url) as conn:
            cursor = await conn.execute(
                "select action, actor_name, detail from audit where action like 'terminal.%' order by id"
            )
            rows = [(row["action"], row["actor_name"], row["detail"]) for row in await cursor.fetchall()]
        return rows if len(rows) >= count else None

    return await until(found, "the log")  # type: ignore[return-value]


async def test_control_that_passes_on_is_logged_too(api, monkeypatch):
    """The audit log has the control that passes to the next operator after a release or the loss of the controller's
    page."""
    monkeypatch.setattr("onsembl.protocol.control.GRACE_SECONDS", 0.05)
    agent = await api.enrol()
    ada, bob = await api.operator(Role.ADMIN), await api.operator(Role.OPERATOR)
    async with page_of(api, agent.id, ada) as one:
        async with page_of(api, agent.id, bob) as two:
            await one.take()
            assert await one.controller() == one.client_id
            await two.take()
            assert (await one.told("controlled"))["waiting"]
            await one.say("release_control")
            assert await one.controller() == two.client_id
            await one.take()
            assert (await one.told("controlled"))["waiting"]
        assert await one.controller() == one.client_id
        # While the page is attached: control ends soon after it leaves, and this is logged, too.
        assert await logged(api, 5) == [
            ("terminal.controlled", ada.email, {}),
            ("terminal.control_ended", ada.email, {}),
            ("terminal.controlled", ada.email, {"given_to": bob.email}),
            ("terminal.control_ended", "system", {"from": bob.email}),
            ("terminal.controlled", "system", {"given_to": ada.email}),
        ]


async def test_control_that_cannot_be_logged_is_not_given(api, monkeypatch):
    """If the audit log cannot be written, control is neither granted nor taken over, but can be released."""
    agent = await api.enrol()
    ada, bob = await api.operator(Role.ADMIN), await api.operator(Role.OPERATOR)
    async with page_of(api, agent.id, ada) as one, page_of(api, agent.id, bob) as two:
        await one.take()
        assert await one.controller() == one.client_id
        async with await connect(api.database_url) as conn:
            await conn.execute("alter table onsembl.audit rename to audit_away")
        await two.take(from_another=True)
        await two.say("ping")
        await two.told("pong")
        await one.say("release_control")
        assert await one.controller() is None
        await two.take()
        await two.say("ping")
        await two.told("pong")
        (terminal,) = api.services.hub.terminals.values()
        assert terminal.control.controller is None


async def test_a_viewer_neither_types_nor_takes_control(api, tmp_path):
    """A viewer's keys and requests for control are rejected."""
    account = await api.operator(Role.VIEWER)
    async with agent_running(api, tmp_path) as agent, page_of(api, agent.id, account) as page:
        await page.take(from_another=True)
        await page.type("x")
        assert (await page.told("keys_taken"))["refused"] == "not_in_control"


async def test_nobody_borrows_a_controllers_id(api):
    """A page that sends another operator's client id does not type in that operator's name."""
    agent = await api.enrol()
    ada, bob = await api.operator(Role.ADMIN), await api.operator(Role.OPERATOR)
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await next_message(socket, "welcome")
        async with page_of(api, agent.id, ada) as one:
            await one.take()
            assert await one.controller() == one.client_id
            async with page_of(api, agent.id, bob, client_id=one.client_id) as thief:
                await thief.take(from_another=True)
                await thief.type("x")
                assert (await thief.told("keys_taken"))["refused"] == "not_in_control"


async def test_a_page_that_comes_back_soon_still_types(api):
    """A page that reconnects soon with its client id keeps control."""
    agent, account = await api.enrol(), await api.operator(Role.OPERATOR)
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await next_message(socket, "welcome")
        async with page_of(api, agent.id, account) as page:
            await page.take()
            assert await page.controller() == page.client_id
        async with page_of(api, agent.id, account, client_id=page.client_id) as again:
            assert again.controller_before == page.client_id
            await again.type("x", seq=1)
            assert (await next_message(socket, "keys"))["text"] == "x"


async def test_a_page_that_lost_control_while_it_was_away_is_told(api):
    """Every attach answers with the present controller or null, so a page learns that it lost control while it was
    away."""
    agent, account = await api.enrol(), await api.operator(Role.OPERATOR)
    async with page_of(api, agent.id, account) as page:
        await page.take()
        assert await page.controller() == page.client_id
        await page.say("release_control")
        assert await page.controller() is None
    async with page_of(api, agent.id, account, client_id=page.client_id) as again:
        assert again.controller_before is None
        async with page_of(api, agent.id, account) as other:
            await other.take()
            assert await again.controller() == other.client_id
            async with page_of(api, agent.id, account) as third:
                assert third.controller_before == other.client_id


async def test_a_page_types_on_while_a_broken_connection_of_it_is_given_up(api):
    """A page that reconnects keeps control when the server later closes its broken connection."""
    agent, account = await api.enrol(), await api.operator(Role.OPERATOR)
    async with page_of(api, agent.id, account) as broken:
        await broken.take()
        assert await broken.controller() == broken.client_id
        async with page_of(api, agent.id, account, client_id=broken.client_id) as page:
            broken.socket.transport.abort()
            await until(lambda: _viewers_are(api, 1), "the broken connection to be given up")
            (terminal,) = api.services.hub.terminals.values()
            assert terminal.control.expire(time.monotonic() + 2 * GRACE_SECONDS) is None
            await page.say("release_control")
            assert await page.controller() is None


async def _viewers_are(api, count: int) -> bool:
    return len(api.services.hub.viewers) == count


async def test_what_the_agent_did_not_answer_comes_again_and_is_typed_once(api, tmp_path):
    """Keys that the agent did not acknowledge are sent again, and each line is typed once and in order over broken
    links."""
    account = await api.operator(Role.OPERATOR)
    operator = Operator(api, account)
    async with (
        CuttableLink(api.url) as link,
        agent_running(api, tmp_path, server=link.url) as agent,
        page_of(api, agent.id, account) as page,
    ):
        command = await operator.send(
            agent.id, "stty -echo; while read n; do echo $n >> got; test $n = end && exit; done"
        )
        await operator.until_state(command, "running")
        await until(lambda: _seen(api, agent.id), "the agent")
        await page.take()
        assert await page.controller() == page.client_id
        for number in range(60):
            await page.type(f"line-{number}\r")
            if number % 6 == 5:
                link.cut()
        await page.type("end\r")
        await operator.until_state(command, "succeeded")
        assert (tmp_path / "got").read_text().split() == [f"line-{number}" for number in range(60)] + ["end"]


async def _seen(api, agent_id: str) -> bool:
    return any(str(id) == agent_id for id in api.services.hub.links)


async def test_another_run_of_the_agent_is_not_typed_at(api):
    """Keys for a program of an earlier run of the agent are rejected as `restarted`."""
    agent, account = await api.enrol(), await api.operator(Role.OPERATOR)
    hello = json.loads(HELLO_TEXT)
    async with page_of(api, agent.id, account) as page:
        async with api.agent_socket(agent) as socket:
            await socket.send(json.dumps({**hello, "boot": str(uuid4())}))
            await next_message(socket, "welcome")
            await page.take()
            await page.type("rm -rf build\r")
            await next_message(socket, "keys")
        async with api.agent_socket(agent) as socket:
            await socket.send(json.dumps({**hello, "boot": str(uuid4())}))
            assert (await page.told("keys_taken"))["refused"] == "restarted"


async def test_keys_of_one_who_lost_control_are_not_typed_later(api):
    """Keys that an operator pressed while the agent was away are rejected if another operator has taken control
    since."""
    agent, boot = await api.enrol(), str(uuid4())
    ada, bob = await api.operator(Role.ADMIN), await api.operator(Role.OPERATOR)
    hello = json.dumps({**json.loads(HELLO_TEXT), "boot": boot})
    async with page_of(api, agent.id, ada) as one, page_of(api, agent.id, bob) as two:
        async with api.agent_socket(agent) as socket:
            await socket.send(hello)
            await next_message(socket, "welcome")
            await one.take()
            await one.type("first")
            assert (await next_message(socket, "keys"))["text"] == "first"
        await until(lambda: _gone(api, agent.id), "the agent to be gone")
        await one.type("rm -rf build\r")
        await one.say("ping")
        await one.told("pong")
        await two.take(from_another=True)
        while await two.controller() != two.client_id:
            pass
        async with api.agent_socket(agent) as socket:
            await socket.send(hello)
            taken = [await one.told("keys_taken") for _ in range(2)]
            assert [(answer["seq"], answer["refused"]) for answer in taken] == [
                (1, "not_in_control"),
                (2, "not_in_control"),
            ]
            await two.type("ls\r")
            assert (await next_message(socket, "keys"))["text"] == "ls\r"


async def test_a_program_that_does_not_read_is_not_fed_for_ever(api, tmp_path):
    """A paste beyond the limit for unread input is rejected, and the program receives all input before it, once."""
    account = await api.operator(Role.OPERATOR)
    operator = Operator(api, account)
    async with agent_running(api, tmp_path) as agent, page_of(api, agent.id, account) as page:
        command = await operator.send(
            agent.id,
            "stty raw -echo; echo raw-$((1+1)); until test -e go; do sleep 0.05; done;"
            " head -c $(cat go) > got; head -c 3 > rest",
        )
        await read_until(page.socket, b"raw-2")  # Before this, the terminal discards input beyond the length of a line.
        await page.take()
        typed, refused = "", None
        for number in range(40):
            part = f"{number:04d}" * 4000
            await page.type(part)
            refused = (await page.told("keys_taken"))["refused"]
            if refused is not None:
                break
            typed += part
        assert refused == "too_much" and len(typed) >= 250_000
        (tmp_path / "going").write_text(str(len(typed)))
        (tmp_path / "going").rename(tmp_path / "go")

        async def has_room() -> bool:
            await page.type("end")
            return (await page.told("keys_taken"))["refused"] is None

        await until(has_room, "the program to read")
        await operator.until_state(command, "succeeded")
        assert (tmp_path / "got").read_text() == typed
        assert (tmp_path / "rest").read_text() == "end"


FULL_SCREEN = """
import curses, time
def main(screen):
    drawn = 0
    while True:
        screen.erase(); screen.addstr(0, 0, f"drawn-{drawn}"); screen.refresh(); drawn += 1
        if screen.getch() == ord("q"): return
curses.wrapper(main)
"""


async def test_a_full_screen_program_is_drawn_anew_for_one_who_comes_later(settings, api, tmp_path):
    """A viewer that attaches past the stream's beginning makes a real curses program redraw its screen."""
    (tmp_path / "full.py").write_text(FULL_SCREEN)
    account = await api.operator(Role.OPERATOR)
    operator = Operator(api, account)
    async with agent_running(api, tmp_path) as agent, page_of(api, agent.id, account) as page:
        filled = await operator.send(agent.id, f"head -c {settings.ring_bytes + 100_000} /dev/zero | tr '\\0' x")
        await operator.until_state(filled, "succeeded")
        command = await operator.send(agent.id, f"{sys.executable} full.py")
        await read_until(page.socket, b"drawn-0")
        async with api.terminal_socket(agent.id) as late:
            attached = await attach(late, account.access_token)
            assert (attached["mode"], attached["offset"] > 0) == ("tail", True)
            seen = b""
            async with asyncio.timeout(30):
                while seen.count(b"drawn-") < 2:  # the first one is in the ring's tail
                    frame = await late.recv()
                    seen += frame if isinstance(frame, bytes) else b""
        await page.take()
        await page.type("q")
        await operator.until_state(command, "succeeded")


async def test_an_agent_that_was_away_draws_anew_for_one_who_came_meanwhile(settings):
    """An agent that was away redraws its program when it returns, for a viewer that attached meanwhile."""
    async with running(replace(settings, ring_bytes=1000)) as api:
        agent, account = await api.enrol(), await api.operator(Role.VIEWER)
        async with api.agent_socket(agent) as socket:
            await socket.send(HELLO_TEXT)
            stream = (await next_message(socket, "welcome"))["stream_id"]
            await socket.send(encode_output(0, b"x" * 4000))
            await next_message(socket, "acknowledged")
        await until(lambda: _gone(api, agent.id), "the agent to be gone")
        async with api.terminal_socket(agent.id) as late:
            assert (await attach(late, account.access_token))["offset"] > 0
            async with api.agent_socket(agent) as socket:
                tail = {"id": stream, "start": 4000, "end": 4000}
                await socket.send(json.dumps({**json.loads(HELLO_TEXT), "stream": tail}))
                await next_message(socket, "redraw")


async def _gone(api, agent_id: str) -> bool:
    return not await _seen(api, agent_id)


@pytest.mark.parametrize("who", ["controller", "another"])
async def test_the_size_is_the_controllers(api, who):
    """The controller's window sets the terminal's size; other operators' windows do not."""
    agent = await api.enrol()
    ada, bob = await api.operator(Role.ADMIN), await api.operator(Role.OPERATOR)
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await next_message(socket, "welcome")
        async with page_of(api, agent.id, ada) as one, page_of(api, agent.id, bob) as two:
            await one.take()
            assert await two.controller() == one.client_id
            await (one if who == "controller" else two).say("resize", columns=77, rows=11)
            await one.say("resize", columns=99, rows=9)
            sized = await next_message(socket, "resize")
            assert (sized["columns"], sized["rows"]) == ((77, 11) if who == "controller" else (99, 9))
