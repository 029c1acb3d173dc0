"""A run of a CLI by its protocol: its input, its end, and a CLI that does not end."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from onsembl.agent.drivers import turn_run
from onsembl.agent.drivers.claude.translator import ClaudeTranslator
from onsembl.agent.drivers.start_failure import waits_for_a_person, with_doctor
from onsembl.agent.drivers.turn_run import TurnRun
from onsembl.agent.mcp.gateway import ToolGateway
from onsembl.agent.mcp.tools import SUBMIT
from onsembl.agent.process.process import ProcessContext
from onsembl.agent.requests import Taken
from onsembl.protocol.attention_messages import (
    Allow,
    Answer,
    Asked,
    Decision,
    Deny,
    PermissionBody,
    Withdrawn,
)
from onsembl.protocol.messages import Message
from onsembl.protocol.request_events import RequestOpened
from onsembl.protocol.turn_events import MessageChunk, PermissionDenied, TurnEvent, TurnOutcome
from onsembl.protocol.turn_messages import TurnReport
from onsembl.protocol.turn_steps import Step

BODY = PermissionBody(tool="Bash", tool_kind="execute", input="{}")
ASKS = "read hello; echo asks; read answer; echo got $answer; echo done"


class Steps:
    """Keeps the newest revision of each step."""

    def __init__(self) -> None:
        self.steps: dict[int, Step] = {}

    def add(self, command_id: UUID, steps: list[Step], stream_id: UUID | None = None) -> None:
        self.steps.update({step.number: step for step in steps})

    def ended(self, command_id: UUID) -> None:
        pass

    def told(self) -> list[tuple[str, str, str]]:
        notices = [step for step in self.steps.values() if step.kind == "notice"]
        return [(step.name, "denied" if step.denied else step.status, step.result) for step in notices]


class Server:
    """Takes the requests of a run, and answers them."""

    def __init__(self, context: ProcessContext) -> None:
        self.requests = context.requests
        self.requests.messages_after_welcome(server_takes=True)
        self.requests.send = self._take
        self.messages: asyncio.Queue[Message] = asyncio.Queue()

    def _take(self, message: Message) -> None:
        self.messages.put_nowait(message)

    async def next(self) -> Message:
        async with asyncio.timeout(60):
            return await self.messages.get()

    def take(self, asked: Asked, decision: Decision) -> Taken:
        answer = Answer(
            request_id=asked.request_id, command_id=asked.command_id, digest=asked.digest, decision=decision, by="anna"
        )
        return self.requests.take(answer)


class EchoTranslator:
    """Sends one line, and takes every line of output for a message; `done` is the end of the turn."""

    usage = None
    error: str | None = None
    outcome: TurnOutcome | None = None
    input_complete = False
    report = TurnReport()

    def __init__(self, text: str = "hello\n") -> None:
        self._input = text.encode()
        self.interrupts = 0

    def receive(self, data: bytes) -> list[TurnEvent]:
        if b"asks" in data:
            return [RequestOpened(id=uuid4(), title="Bash rm", body=BODY)]
        if b"done" in data:
            self.outcome, self.input_complete = "completed", True
        return [MessageChunk(speaker="agent", text=data.decode())]

    def end(self) -> list[TurnEvent]:
        return []

    def answer(self, request_id: UUID, decision: Decision, denial: str) -> list[TurnEvent] | None:
        self._input = f"{type(decision).__name__}\n".encode()
        denied = PermissionDenied(tool_call="t", name="Bash", title="rm", reason=denial)
        return [denied] if isinstance(decision, Deny) else []

    def interrupt(self) -> None:
        self._input = b"interrupt\n"

    @property
    def idle(self) -> bool:
        return self.outcome is not None

    def steer(self, steer_id: UUID, text: str) -> None:
        self.input_complete = False

    def drop_steers(self) -> None:
        self.input_complete = True

    def take_input(self) -> bytes:
        taken, self._input = self._input, b""
        return taken


def bash(script: str, context: ProcessContext, translator: EchoTranslator) -> TurnRun:
    return TurnRun(["bash", "-c", script], uuid4(), context, translator, translator)


async def end(run: TurnRun) -> tuple[int, str | None]:
    """Wait for the program's end; return its exit status and the run's error."""
    async with asyncio.timeout(60):
        status = await run.process.exited
    await run.process.drain()
    error = run.finish()
    run.process.close()
    return status, error


async def test_the_input_is_passed_and_closed_after_the_last_turn(context, shown):
    """The program reads its input, reports its result, and ends when its input ends."""
    run = bash("read line; echo got $line; echo done; read || echo eof >&2", context, EchoTranslator())
    assert await end(run) == (0, None)
    assert b"got hello\r\ndone\r\n" in shown.data
    assert b"eof\r\n" in shown.data
    assert run.completed


async def test_an_interrupt_is_passed_by_the_protocol(context, shown):
    """The program gets a line, no signal."""
    run = bash("read a; echo ready; read b; echo $b done", context, EchoTranslator())
    await shown.until(b"ready")
    run.interrupt()
    assert await end(run) == (0, None)
    assert b"interrupt" in shown.data


@pytest.mark.parametrize(
    "script",
    [
        "echo done; exec sleep 1000",
        "trap '' TERM; echo done; sleep 1000 & wait; wait",
        "trap '' TERM; echo done; while echo more; do sleep 0.01; done",
    ],
)
async def test_a_program_that_does_not_end_is_ended(context, shown, script, monkeypatch):
    """After its result a program has some time to exit, also if it writes on; its outcome is that of the result."""
    monkeypatch.setattr(turn_run, "EXIT_SECONDS", 0.1)
    run = bash(script, context, EchoTranslator())
    status, error = await end(run)
    assert (error, run.completed) == (None, True)
    assert status in (-15, -9)


async def test_a_text_that_an_idle_program_does_not_take_is_dropped(context, shown, monkeypatch):
    """The turn has ended, and the program ignores the text: its input is closed, and it ends."""
    monkeypatch.setattr(turn_run, "EXIT_SECONDS", 0.1)

    class Ignoring(EchoTranslator):
        def receive(self, data: bytes) -> list[TurnEvent]:
            self.outcome = "completed"
            return []

    run = bash("echo ready; read || echo eof >&2", context, Ignoring(""))
    assert run.steer is not None
    run.steer(uuid4(), "text")
    assert await end(run) == (0, None)
    assert b"eof" in shown.data
    assert run.steer is None


async def test_without_a_result_the_error_is_the_last_line_of_the_error_output(context, shown):
    """A CLI that is not signed in, or not installed well, says so there; the doctor finds the mend. With a conversation
    it did start."""
    run = bash("echo first >&2; echo 'please log in' >&2; exit 3", context, EchoTranslator())
    assert await end(run) == (3, with_doctor("please log in"))
    run = bash("exit 0", context, EchoTranslator())
    assert await end(run) == (0, with_doctor("It ended without a result"))
    begun = EchoTranslator()
    begun.report = TurnReport(conversation="an-id")
    assert await end(bash("exit 0", context, begun)) == (0, "It ended without a result.")


@pytest.mark.parametrize(
    ("script", "status", "error"),
    [
        (r"""printf '{"type": "assis'; echo 'Segmentation fault' >&2; exit 139""", 139, "Segmentation fault"),
        ("echo \"node: cannot find module 'yoga.wasm'\" >&2; exit 1", 1, "node: cannot find module 'yoga.wasm'"),
        ("read -r answer < /dev/tty || { echo 'no terminal to ask on' >&2; exit 2; }", 2, "no terminal to ask on"),
    ],
)
async def test_a_cli_that_breaks_off_fails_in_its_own_words(context, shown, script, status, error):
    """In the middle of a line, because an upgrade has taken a file away, or because it asks on its terminal: it has
    none, so that it holds nothing up."""
    translator = ClaudeTranslator("the prompt", uuid4(), "ask")
    run = TurnRun(["bash", "-c", script], uuid4(), context, translator, translator)
    assert await end(run) == (status, with_doctor(error))
    assert not run.completed


async def test_input_that_nobody_reads_holds_nothing_up(context, shown):
    """A program that ends without reading a long input ends the run."""
    run = bash("echo done", context, EchoTranslator("x" * 1_000_000))
    assert await end(run) == (0, None)


@pytest.mark.parametrize(
    ("decision", "got", "step"),
    [
        (Allow(), b"got Allow", ("request", "completed", "Allowed by anna.")),
        (Deny(reason="No."), b"got Deny", ("request", "denied", "Denied by anna: No.")),
    ],
)
async def test_a_request_waits_for_its_answer(context, shown, decision, got, step):
    """The program gets the decision, and the terminal and the steps have both."""
    server, steps = Server(context), Steps()
    run = bash(ASKS, replace(context, steps=steps), EchoTranslator())
    asked = await server.next()
    assert (
        isinstance(asked, Asked)
        and run.clock.stands_still
        and server.requests.open_of(asked.command_id) == [asked.request_id]
    )
    assert steps.told() == [("request", "in_progress", "")]
    assert b"Waits for a person: Bash rm" in shown.data
    taken = server.take(asked, decision)
    assert taken.decision == decision and run.give(asked.request_id, decision, "anna") and run.clock.waits_since is None
    assert await end(run) == (0, None)
    assert got in shown.data and steps.told()[0] == step
    assert (b"Allowed by anna." if decision == Allow() else b"denied: Bash rm \xc2\xb7 by anna: No.") in shown.data


async def test_a_request_that_nobody_can_see_is_denied(context, shown):
    """A server of an earlier release takes none; and one may come when a request is open."""
    run = bash(ASKS, context, EchoTranslator())
    assert await end(run) == (0, None)
    assert b"got Deny" in shown.data and b"nobody could be asked" in shown.data
    server = Server(context)
    run = bash(ASKS, context, EchoTranslator())
    asked = await server.next()
    run.deny_requests("nobody could be asked")
    assert isinstance(asked, Asked) and run.clock.waits_since is None
    assert isinstance(await server.next(), Withdrawn)
    assert await end(run) == (0, None)
    assert shown.data.count(b"got Deny") == 2


@pytest.mark.parametrize("by", ["kill", "interrupt", "stop"])
async def test_a_request_ends_with_its_turn(context, shown, by):
    """A program that is killed, and a turn that is stopped: the request is withdrawn, and an answer comes late."""
    server = Server(context)
    run = bash("read hello; echo asks; read interrupt; echo done", context, EchoTranslator())
    asked = await server.next()
    assert isinstance(asked, Asked)
    if by == "kill":
        run.process.tree.signal_group(signal.SIGKILL)
        async with asyncio.timeout(60):
            await run.process.exited
        assert server.take(asked, Allow()).decision == Allow() and not run.give(asked.request_id, Allow(), "anna")
    elif by == "interrupt":
        run.interrupt()
    else:
        run.withdraw_requests("The command is stopped.")
        run.interrupt()
    assert run.clock.waits_since is None
    if by != "kill":
        assert isinstance(await server.next(), Withdrawn)
        assert server.take(asked, Allow()) == Taken("late")
    await end(run)
    assert b"Not answered" in shown.data and b"Allow" not in shown.data


@pytest.mark.parametrize(
    ("script", "asked"),
    [
        ("printf 'Do you trust the files in this folder? [y/N] '", "Do you trust the files in this folder? [y/N]"),
        ("echo 'Need to install a package' >&2; printf 'Ok to proceed? (y) ' >&2", "Ok to proceed? (y)"),
        ("trap 'echo no' TERM; printf 'Enter your API key: '", "Enter your API key:"),
    ],
)
async def test_a_cli_that_asks_in_plain_text_is_ended(context, shown, script, asked, monkeypatch):
    """Nobody can answer: it is ended soon, also if it obeys no signal, and the error says what to do."""
    monkeypatch.setattr(turn_run, "QUESTION_SECONDS", 0.05)
    monkeypatch.setattr(turn_run, "EXIT_SECONDS", 0.05)
    translator = ClaudeTranslator("the prompt", uuid4(), "ask")
    run = TurnRun(
        ["bash", "-c", f"{script}; while true; do sleep 1000 & wait; done"], uuid4(), context, translator, translator
    )
    status, error = await end(run)
    assert (status in (-15, -9), run.completed) == (True, False)
    assert error == waits_for_a_person(asked) and len(error) <= 256


async def test_a_question_that_is_no_end_ends_nothing(context, shown, monkeypatch):
    """A question in the CLI's own protocol, or in the error output of a tool, waits for nobody."""
    monkeypatch.setattr(turn_run, "QUESTION_SECONDS", 0.05)
    talk = """echo '{"type": "assistant", "message": {"content": [{"type": "text", "text": "Shall I?"}]}}'"""
    result = """echo '{"type": "result", "subtype": "success", "is_error": false}'"""
    script = f"{talk}; echo 'Really? [y/N]' >&2; sleep 0.3; {result}"
    translator = ClaudeTranslator("the prompt", uuid4(), "ask")
    run = TurnRun(["bash", "-c", script], uuid4(), context, translator, translator)
    assert await end(run) == (0, None)


@pytest.mark.parametrize(("last", "status"), [("done", "completed"), ("gone", "failed")])
async def test_a_submitted_report_is_complete_when_the_turn_is(context, shown, last, status):
    """Its step is there while the turn runs; a turn that breaks off leaves a draft."""
    gateway, steps = ToolGateway(), Steps()
    await gateway.start()
    access = gateway.admit(60.0)
    assert access is not None
    context = replace(context, steps=steps)
    run = TurnRun(["bash", "-c", f"read line; echo {last}"], uuid4(), context, EchoTranslator(), access=access)
    access.show(access.tools.call(SUBMIT, {"title": "t", "summary": "s"}, lambda _text, _failed: None))
    [draft] = steps.steps.values()
    assert (draft.name, draft.status) == ("report", "in_progress")
    await end(run)
    assert steps.steps[draft.number].status == status
    await gateway.close()
