"""The agent's own tools for coding CLIs: the protocol, the questions, and the socket with its secrets."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol.test_reports import REPORT

from onsembl.agent.mcp.gateway import COMMAND, ToolAccess, ToolGateway, server_name
from onsembl.agent.mcp.pipe import SECRET_VARIABLE, SOCKET_VARIABLE
from onsembl.agent.mcp.session import MAX_LINE_BYTES, VERSIONS, Call, CallCancelled, McpSession
from onsembl.agent.mcp.tools import (
    ASK,
    DESCRIPTIONS,
    MAX_NOTICES,
    MAX_SUBMISSIONS,
    NAMES,
    NOTIFY,
    PENDING,
    SUBMIT,
    OperatorTools,
)
from onsembl.protocol.attention_messages import Answers, Deny, QuestionAnswer
from onsembl.protocol.reports import read_report
from onsembl.protocol.request_events import RequestOpened, RequestWithdrawn
from onsembl.protocol.turn_events import Notice, ReportSubmitted, TurnEvent


def line(method: str, number: object = 1, **params: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n"


def said(session: McpSession) -> list[dict]:
    return [json.loads(text) for text in session.take_output().splitlines()]


def test_a_client_begins():
    """With a version that both speak, else with ours; it finds the tools."""
    session = McpSession(DESCRIPTIONS)
    assert session.receive(line("initialize", protocolVersion="2024-11-05") + line("initialize", 2)) == []
    assert [answer["result"]["protocolVersion"] for answer in said(session)] == ["2024-11-05", VERSIONS[0]]
    session.receive(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n' + line("ping") + line("tools/list", 2))
    pong, listed = said(session)
    assert pong["result"] == {}
    assert [tool["name"] for tool in listed["result"]["tools"]] == list(NAMES)


def test_calls_have_one_result_each():
    """An unknown tool and an unknown request are errors; what is no message is passed over."""
    session = McpSession(DESCRIPTIONS)
    called = line("tools/call", "a", name=ASK, arguments={"question": "?"})
    cancelled = b'{"method":"notifications/cancelled","params":{"requestId":"a"}}\n'
    calls = session.receive(called + cancelled + b"nothing\n[]\n{}\n" + line("tools/call", name="x") + line("x", [1]))
    assert calls == [Call("a", ASK, {"question": "?"}), CallCancelled("a")]
    session.respond(calls[0], "yes")
    unknown, invalid, answer = said(session)
    assert (unknown["error"]["code"], invalid["error"]["code"], invalid["id"]) == (-32602, -32600, None)
    assert answer["result"] == {"content": [{"type": "text", "text": "yes"}], "isError": False}


@pytest.mark.parametrize("number", [7, "a-7"])
@pytest.mark.parametrize("order", ["first", "last", "nowhere"])
def test_a_request_that_is_too_long_gets_an_error(number, order):
    """With its id, which clients write first or last; the session goes on."""
    call: dict = {"method": "tools/call", "params": {"name": SUBMIT, "arguments": {"x": "y" * MAX_LINE_BYTES, "id": 5}}}
    if order == "first":
        call = {"jsonrpc": "2.0", "id": number, **call}
    elif order == "last":
        call = {**call, "jsonrpc": "2.0", "id": number}
    session = McpSession(DESCRIPTIONS)
    sent = json.dumps(call, separators=(",", ":")).encode() + b"\n" + line("ping", 8)
    for at in range(0, len(sent), 65536):
        assert session.receive(sent[at : at + 65536]) == []
    error, pong = said(session)
    assert (error["id"], error["error"]["code"]) == (None if order == "nowhere" else number, -32600)
    assert (pong["id"], pong["result"]) == (8, {})


@given(data=st.binary(max_size=200), size=st.integers(1, 50))
def test_nothing_that_a_client_writes_raises(data, size):
    """Cut anywhere."""
    session = McpSession(DESCRIPTIONS)
    whole = data + b"\n" + line("ping")
    for at in range(0, len(whole), size):
        session.receive(whole[at : at + size])
    assert said(session)[-1]["result"] == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["title", "severity"]), inner),
    max_leaves=5,
)


class Asking:
    """The tools, with the replies to each call."""

    def __init__(self) -> None:
        self.tools = OperatorTools()
        self.replies: list[tuple[str, bool]] = []

    def reply(self, text: str, failed: bool) -> None:
        self.replies.append((text, failed))

    def ask(self, question: str = "Which?", reply=None, **arguments: object) -> list[TurnEvent]:
        return self.tools.call(ASK, {"question": question, **arguments}, reply or self.reply)


YES = Answers(answers=[QuestionAnswer(id="1", answers=["yes", "indeed"])])


def test_a_question_is_answered():
    """With its options; a denial tells its reason. Another question of the CLI's own is not answered here."""
    asking = Asking()
    [opened] = asking.ask(options=["a", "b"], multiple=True)
    assert isinstance(opened, RequestOpened) and opened.title == "Which?"
    [question] = opened.body.questions
    assert ([option.label for option in question.options], question.multiple) == (["a", "b"], True)
    assert asking.replies == []
    assert asking.tools.answer(opened.id, YES) and asking.replies == [("yes\nindeed", False)]
    assert not asking.tools.answer(opened.id, YES), "once"
    [opened] = asking.ask()
    assert asking.tools.answer(opened.id, Deny(reason="Ask later.")) and asking.replies[-1] == ("Ask later.", False)


def test_a_pending_question_is_taken_up():
    """A call that has waited for long ends; the next one with the same question waits on, or gets the answer."""
    asking = Asking()
    [opened] = asking.ask()
    asking.tools.pend(asking.reply)
    assert asking.replies == [(PENDING, False)]
    assert asking.ask() == [], "it is the same question"
    asking.tools.pend(asking.reply)
    asking.tools.answer(opened.id, YES)
    assert asking.replies[1:] == [(PENDING, False)]
    assert asking.ask() == [] and asking.replies[-1] == ("yes\nindeed", False)
    assert len(asking.ask()) == 1, "asked anew"


def test_a_question_that_nobody_waits_for_is_withdrawn():
    """A call that is given up takes its question along, unless another call waits for it; so does the turn's end."""
    asking = Asking()
    others: list[str] = []

    def other(text: str, failed: bool) -> None:
        others.append(text)

    [opened] = asking.ask()
    asking.ask(reply=other)
    assert asking.tools.give_up(asking.reply) == []
    [withdrawn] = asking.tools.give_up(other)
    assert isinstance(withdrawn, RequestWithdrawn) and withdrawn.id == opened.id
    assert not asking.tools.answer(opened.id, YES) and asking.replies == [] == others
    [opened] = asking.ask()
    asking.tools.end()
    assert asking.replies == [("The turn is over.", True)] and not asking.tools.answer(opened.id, YES)


def test_what_is_too_long_is_refused():
    """A question, its options and notices have bounds."""
    asking = Asking()
    for arguments in ({"question": ""}, {"question": "x" * 2001}, {"options": ["x"] * 33}, {"options": ["x" * 2001]}):
        assert asking.ask(**arguments) == [] and asking.replies.pop()[1]
    for number in range(MAX_NOTICES + 1):
        events = asking.tools.call(NOTIFY, {"text": "done"}, asking.reply)
        assert bool(events) == (number < MAX_NOTICES) and asking.replies.pop()[1] == (not events)
    assert Asking().tools.call(NOTIFY, {"text": "done"}, asking.reply) == [
        Notice(kind="information", text="Note for the operator: done")
    ]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (REPORT, "was taken"),
        ({**REPORT, "title": None}, "`$.title`"),
        ({"title": "x"}, "`summary`"),
        ({}, "`title`"),
        ({**REPORT, "findings": [{"title": "x", "severity": "low"}] * 501}, "length <= 500"),
        ({**REPORT, "findings": [{"title": "x", "severity": "low"}] * 20_000}, "bytes; the last"),
        ({**REPORT, "title": "<script>\u202e\x1b[2J"}, "was taken"),
    ],
)
def test_a_report_is_taken_or_what_is_wrong_is_said(arguments, answer):
    """One that does not fit is kept, too."""
    asking = Asking()
    [event] = asking.tools.call(SUBMIT, arguments, asking.reply)
    [(text, failed)] = asking.replies
    assert answer in text and failed == (answer != "was taken")
    assert isinstance(event, ReportSubmitted) and json.loads(event.text) == arguments


@given(st.dictionaries(st.sampled_from(["title", "summary", "findings", "x"]), JSON))
def test_nothing_that_is_submitted_raises(arguments):
    """A submission that is said to be taken is a report."""
    asking = Asking()
    [event] = asking.tools.call(SUBMIT, arguments, asking.reply)
    assert isinstance(event, ReportSubmitted)
    [(_, failed)] = asking.replies
    assert failed == (read_report(event.text).report is None)


def test_submissions_are_bounded():
    """A model in a loop does not fill the steps."""
    asking = Asking()
    for number in range(MAX_SUBMISSIONS + 1):
        events = asking.tools.call(SUBMIT, REPORT, asking.reply)
        assert bool(events) == (number < MAX_SUBMISSIONS) and asking.replies.pop()[1] == (not events)


def test_the_servers_name_is_the_agents_own():
    """It stays the same, and is not that of a server that a user may have."""
    one, two = server_name(Path("/agents/one")), server_name(Path("/agents/two"))
    assert one == server_name(Path("/agents/one")) and len({one, two, "onsembl"}) == 3
    assert re.fullmatch(r"onsembl-[0-9a-f]{8}", one), "a name that every CLI takes, and a bare key in TOML"


@pytest.fixture
async def gateway() -> AsyncIterator[ToolGateway]:
    gateway = ToolGateway()
    assert gateway.admit(1.0) is None, "it does not listen yet"
    await gateway.start()
    yield gateway
    await gateway.close()


async def start(access: ToolAccess, **environment: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    variables = {**os.environ, **access.environment, **environment}
    return await asyncio.create_subprocess_exec(*COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, env=variables)


async def test_a_cli_reaches_the_tools_of_its_command(gateway):
    """By the program that it starts, with the secret of its environment, until the command is over."""
    access = gateway.admit(60.0)
    opened: asyncio.Queue[TurnEvent] = asyncio.Queue()
    access.show = lambda events: [opened.put_nowait(event) for event in events] and None
    folder = Path(access.environment[SOCKET_VARIABLE])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o600 and stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    config = json.loads(access.mcp_config())["mcpServers"][access.server_name]
    assert access.secret not in access.mcp_config() and [config["command"], *config["args"]] == list(COMMAND)
    async with asyncio.timeout(60):
        program = await start(access)
        stranger = await start(access, **{SECRET_VARIABLE: "guessed"})
        assert await stranger.communicate(line("ping")) == (b"", b"") and stranger.returncode == 0
        program.stdin.write(line("initialize") + line("tools/call", 2, name=ASK, arguments={"question": "?"}))
        assert b"serverInfo" in await program.stdout.readline()
        event = await opened.get()
        assert isinstance(event, RequestOpened)
        assert access.tools.answer(event.id, YES)
        assert b"yes\\nindeed" in await program.stdout.readline()
        access.close()
        assert await program.wait() == 0
        late = await start(access)
        assert await late.communicate(line("ping")) == (b"", b"")


async def test_a_cli_that_goes_withdraws_its_question(gateway):
    """So does a call that waits for too long, for the CLI's own limit: it is pending, and the question stays open."""
    access = gateway.admit(0.01)
    events: asyncio.Queue[TurnEvent] = asyncio.Queue()
    access.show = lambda shown: [events.put_nowait(event) for event in shown] and None
    async with asyncio.timeout(60):
        program = await start(access)
        program.stdin.write(line("tools/call", name=ASK, arguments={"question": "?"}))
        assert b"Pending" in await program.stdout.readline()
        assert isinstance(await events.get(), RequestOpened) and events.empty()
        access.pending_seconds = 60.0
        program.stdin.write(line("tools/call", 2, name=ASK, arguments={"question": "?"}) + line("ping", 3))
        assert b'"id":3' in await program.stdout.readline()
        program.kill()
        await program.wait()
        assert isinstance(await events.get(), RequestWithdrawn)


async def test_the_program_ends_when_the_agent_closes_with_lines_unread(tmp_path):
    """The kernel then resets the connection: that is an end like any other."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "tools"))
        listener.listen()
        pipe = asyncio.subprocess.PIPE
        environment = {**os.environ, SOCKET_VARIABLE: str(tmp_path / "tools"), SECRET_VARIABLE: "x"}
        async with asyncio.timeout(60):
            program = await asyncio.create_subprocess_exec(
                *COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, env=environment
            )
            connection, _ = await asyncio.to_thread(listener.accept)
            assert await asyncio.to_thread(connection.recv, 1) == b"x"  # its line end stays unread
            connection.close()
            assert await program.communicate() == (b"", b"") and program.returncode == 0


async def test_the_program_says_why_it_cannot_work(tmp_path):
    """Started by hand, or without the agent."""
    pipe = asyncio.subprocess.PIPE
    for variables, text in (
        ({}, b"started by a coding CLI"),
        ({SOCKET_VARIABLE: str(tmp_path / "none"), SECRET_VARIABLE: "x"}, b"cannot be reached"),
    ):
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "onsembl.agent.mcp.pipe"), stdin=pipe, stderr=pipe, env={**os.environ, **variables}
        )
        _, error = await program.communicate()
        assert text in error and program.returncode == 1
