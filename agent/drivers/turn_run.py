"""A running command of a coding CLI that speaks a protocol on its standard streams: its process and its translator."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

import msgspec

from onsembl.agent.drivers.git_branch import git_branch
from onsembl.agent.drivers.plain_question import PlainQuestion
from onsembl.agent.drivers.start_failure import waits_for_a_person, with_doctor
from onsembl.agent.drivers.step_recorder import StepRecorder, short
from onsembl.agent.mcp.gateway import ToolAccess
from onsembl.agent.process.process import Process, ProcessContext
from onsembl.agent.rendering.text import folded
from onsembl.agent.rendering.turn import TurnRenderer
from onsembl.agent.requests import in_words
from onsembl.protocol.attention_messages import Asked, Decision, Deny, RequestBody, digest_of
from onsembl.protocol.limits import LimitName
from onsembl.protocol.request_events import RequestAnswered, RequestOpened, RequestWithdrawn
from onsembl.protocol.turn_events import (
    BackgroundSubagents,
    Notice,
    Steered,
    ToolCall,
    ToolCallEnded,
    TurnEnded,
    TurnEvent,
    TurnOutcome,
    TurnStarted,
)
from onsembl.protocol.turn_messages import TurnReport
from onsembl.protocol.turn_steps import Step
from onsembl.protocol.usage import Usage
from onsembl.protocol.work_clock import ASK_TOOL, WorkClock

logger = logging.getLogger(__name__)

EXIT_SECONDS = 15.0
"""How long a CLI may take to end after its last turn, once its input is closed. Claude Code gives its background shells
5 seconds."""
PROGRAM_ENDED = "The program has ended."
NOBODY_TO_ASK = (
    "Nobody can be asked for permission while this command runs. Go on without this tool call, "
    "and say in the answer what was not possible."
)
QUESTION_SECONDS = 20.0
"""How long a CLI may be silent after a question in plain text: it waits for an answer that nobody can give."""
_ERROR_BYTES = 4096
"""How much of the end of the CLI's error output is kept, for the case that it reports no result."""


class Translator(Protocol):
    """One run of a CLI, translated without I/O."""

    outcome: TurnOutcome | None
    """The outcome of the last turn that did something; None before the first result."""

    def receive(self, data: bytes) -> list[TurnEvent]:
        """Translate output, which may be cut anywhere."""
        ...

    def end(self) -> list[TurnEvent]:
        """Translate what is left at the end of the output."""
        ...

    def interrupt(self) -> None:
        """Ask the CLI to end the turn in its own way. It gets no answer to its open requests any more."""
        ...

    def answer(self, request_id: UUID, decision: Decision, denial: str) -> list[TurnEvent] | None:
        """Give the CLI the decision on a request that was opened by an event; None when it does not wait any more.
        `denial` is shown if it is one."""
        ...

    def take_input(self) -> bytes:
        """The bytes for the CLI's input since the last call."""
        ...

    @property
    def input_complete(self) -> bool:
        """Whether the CLI is idle and nothing more will be sent: its input is to be closed, so that it ends."""
        ...

    @property
    def error(self) -> str | None:
        """The CLI's own text of what went wrong."""
        ...

    @property
    def usage(self) -> Usage | None:
        """The tokens and the cost so far."""
        ...

    @property
    def report(self) -> TurnReport:
        """What the CLI has said of the turn and its conversation."""
        ...


class Steering(Protocol):
    """A translator's other side, for a CLI that takes texts into a running turn."""

    def steer(self, steer_id: UUID, text: str) -> None:
        """Give the CLI a text for the running turn."""
        ...

    def drop_steers(self) -> None:
        """Wait no longer for the CLI to take the texts that it has not taken."""
        ...

    @property
    def idle(self) -> bool:
        """Whether the CLI works on nothing. It may still begin a turn for a text that it has not taken."""
        ...


class TurnRun:
    """Runs a CLI, shows its events, and passes it its input. Raises OSError when it cannot start.

    `steering` is the translator of a CLI that takes texts into a running turn. With `report`, the answer of a completed
    turn is a report, which is recorded as its last step. The input begins `delay` seconds after the start, and `reason`
    is shown meanwhile. `access` is what the CLI was given to the agent's own tools.
    """

    def __init__(
        self,
        argv: Sequence[str],
        command_id: UUID,
        context: ProcessContext,
        translator: Translator,
        steering: Steering | None = None,
        *,
        report: bool = False,
        delay: float = 0.0,
        reason: str = "",
        access: ToolAccess | None = None,
    ) -> None:
        self._command_id = command_id
        self._terminal = context.terminal
        self._steps = context.steps
        self._requests = context.requests
        self._bodies: dict[UUID, RequestBody] = {}
        """The open requests."""
        self._recorder = StepRecorder()
        self._report = report
        self._branch = git_branch(context.cwd)
        self._translator = translator
        self._renderer = TurnRenderer(lambda: context.terminal.columns)
        self._errors = b""
        self._question = PlainQuestion()
        self._question_due: asyncio.TimerHandle | None = None
        self._asked: str | None = None
        """The question for which the program was ended."""
        self._exit_due: asyncio.TimerHandle | None = None
        self._steers_due: asyncio.TimerHandle | None = None
        """When an idle CLI must have taken the texts that it was given."""
        self._steering = steering
        self._takes_steers = steering is not None
        """False once the input is closed, or the turn is interrupted."""
        self.on_steered: Callable[[UUID, int], None] = lambda _id, _step: None
        self.progressed = asyncio.Event()
        self.last_line = ""
        self.clock = WorkClock(asyncio.get_running_loop().time())
        self._access = access
        environment: Mapping[str, str] = {}
        if access is not None:
            access.show = self._show
            environment = access.environment
        try:
            self.process = Process.on_pipes(
                argv, str(command_id), context, self._receive, self._receive_error, environment
            )
        except OSError:
            self._end_access()
            raise
        self._input_due: asyncio.TimerHandle | None = None
        if delay > 0:
            self._show([Notice(kind="information", text=reason)])
            self._input_due = asyncio.get_running_loop().call_later(delay, self._begin_input)
        self._pass_input()

    def interrupt(self) -> None:
        self._takes_steers = False
        self.withdraw_requests("The turn was interrupted.")
        self._translator.interrupt()
        self._pass_input()

    @property
    def steer(self) -> Callable[[UUID, str], None] | None:
        return self._steer if self._takes_steers and not self.process.exited.done() else None

    def _steer(self, steer_id: UUID, text: str) -> None:
        assert self._steering is not None
        self._steering.steer(steer_id, text)
        self._pass_input()

    def give(self, request_id: UUID, decision: Decision, by: str) -> bool:
        reason = f": {decision.reason}" if isinstance(decision, Deny) and decision.reason else ""
        ended = self.process.exited.done()
        events = self._answer(request_id, decision, f"by {by}{reason}") if not ended else None
        if events is None:
            self._show(
                [RequestWithdrawn(id=request_id, reason=PROGRAM_ENDED if ended else "It was not open any more.")]
            )
            return False
        text = in_words(decision, self._bodies.pop(request_id), by)
        answered = RequestAnswered(id=request_id, text=text, denied=isinstance(decision, Deny))
        self._show([answered, *events])
        self._pass_input()
        self.progressed.set()
        return True

    def withdraw_requests(self, reason: str) -> None:
        if self._access is not None:
            self._access.tools.end()
        withdrawn = self._requests.open_of(self._command_id)
        self._show([RequestWithdrawn(id=request_id, reason=reason) for request_id in withdrawn])

    def deny_requests(self, reason: str) -> None:
        for request_id in self._requests.open_of(self._command_id):
            events = self._answer(request_id, Deny(reason=NOBODY_TO_ASK), reason)
            self._show([RequestWithdrawn(id=request_id, reason=reason), *(events or [])])
        self._pass_input()

    def _end_access(self) -> None:
        if self._access is not None:
            self._access.close()

    def finish(self) -> str | None:
        self._end_access()
        self._stop_waiting_for_input()
        self._stop_waiting_for_exit()
        self._stop_waiting_for_steers()
        self._stop_waiting_for_answer()
        self._show(self._translator.end())
        self._terminal.write(_terminal_lines(self._renderer.close()))
        end, now = self._terminal.end, datetime.now(UTC)
        steps = self._recorder.end(end, now)
        steps += self._recorder.report(end, now, asked=self._report, completed=self.completed)
        self._record(steps)
        self._steps.ended(self._command_id)
        if self._translator.outcome is not None or self._translator.error is not None:
            return self._translator.error
        if (question := self._asked or self._question.text) is not None:
            return waits_for_a_person(question)
        lines = folded(self._errors.decode(errors="replace"), lines=1000)
        last = lines[-1] if lines and lines[-1] else "It ended without a result."
        return last if self._translator.report.conversation is not None else with_doctor(last)

    @property
    def completed(self) -> bool:
        return self._translator.outcome == "completed"

    @property
    def usage(self) -> Usage | None:
        return self._translator.usage

    @property
    def turn(self) -> TurnReport:
        return msgspec.structs.replace(self._translator.report, branch=self._branch)

    @property
    def exceeded(self) -> LimitName | None:
        return "cost_usd" if self._translator.outcome == "over_budget" else None

    def _receive(self, data: bytes) -> None:
        self._question.output(data)
        self._await_answer()
        self._show(self._translator.receive(data))
        self._pass_input()
        self.progressed.set()

    def _receive_error(self, data: bytes) -> None:
        self._errors = (self._errors + data)[-_ERROR_BYTES:]
        self._question.errors(data)
        self._await_answer()
        self._terminal.write(data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))

    def _show(self, events: list[TurnEvent]) -> None:
        """Show the events by one write, and record their steps with the offsets of the bytes that show them."""
        shown: list[bytes] = []
        steps: list[Step] = []
        now, start = datetime.now(UTC), self._terminal.end
        waiting = deque(events)
        while waiting:
            event = waiting.popleft()
            match event:
                case RequestOpened() if (denied := self._open(event, now)) is not None:
                    waiting.extendleft(reversed(denied))
                    continue
                case RequestWithdrawn():
                    self._close(event)
                case _:
                    pass
            _tell(self.clock, event, asyncio.get_running_loop().time())
            shown.append(_terminal_lines(self._renderer.render(event)))
            end = start + len(shown[-1])
            steps += self._recorder.record(event, start, end, now)
            if isinstance(event, Steered):
                self.on_steered(event.id, steps[-1].number)
            start = end
        self._terminal.write(b"".join(shown))
        self._record(steps)

    def _record(self, steps: list[Step]) -> None:
        if steps:
            self._steps.add(self._command_id, steps, self._terminal.stream_id)

    def _answer(self, request_id: UUID, decision: Decision, denial: str) -> list[TurnEvent] | None:
        """Give a decision to whoever asked: a call of the agent's own tools, or the CLI."""
        if self._access is not None and self._access.tools.answer(request_id, decision):
            return []
        return self._translator.answer(request_id, decision, denial)

    def _open(self, event: RequestOpened, now: datetime) -> list[TurnEvent] | None:
        """Ask a person; if nobody can be asked, deny the request and return the events of the denial."""
        asked = Asked(
            request_id=event.id,
            command_id=self._command_id,
            title=short(event.title),
            body=event.body,
            digest=digest_of(event.body),
            step=self._recorder.step_of(event.tool_call),
            asked_at=now,
        )
        if (denial := self._requests.ask(asked)) is not None:
            return self._answer(event.id, Deny(reason=NOBODY_TO_ASK), denial) or []
        self._bodies[event.id] = event.body
        self.progressed.set()
        return None

    def _close(self, event: RequestWithdrawn) -> None:
        self._requests.withdraw(event.id, event.reason)
        self._bodies.pop(event.id, None)
        self.progressed.set()

    def _begin_input(self) -> None:
        self._input_due = None
        self._pass_input()

    def _pass_input(self) -> None:
        if self._translator.input_complete:
            self._stop_waiting_for_input()
        elif self._input_due is not None:
            return
        if data := self._translator.take_input():
            self.process.write_input(data)
        if self._steering is None or not self._steering.idle:
            self._stop_waiting_for_steers()
        elif not self._translator.input_complete and self._steers_due is None:
            self._steers_due = asyncio.get_running_loop().call_later(EXIT_SECONDS, self._drop_steers, self._steering)
        if not self._translator.input_complete:
            if self._asked is None:
                self._stop_waiting_for_exit()
        elif self._exit_due is None:  # else more output, which must not put the end off
            self._stop_waiting_for_steers()
            self._takes_steers = False
            self._end_access()  # Gemini CLI runs on while its server of tools does
            self.process.end_input()
            self._exit_due = asyncio.get_running_loop().call_later(EXIT_SECONDS, self._stop_program, signal.SIGTERM)

    def _drop_steers(self, steering: Steering) -> None:
        steering.drop_steers()
        self._pass_input()

    def _stop_waiting_for_steers(self) -> None:
        if self._steers_due is not None:
            self._steers_due.cancel()
            self._steers_due = None

    def _stop_waiting_for_input(self) -> None:
        if self._input_due is not None:
            self._input_due.cancel()
            self._input_due = None

    def _await_answer(self) -> None:
        """End the program if its last line is a question, and it says nothing more."""
        self._stop_waiting_for_answer()
        if (question := self._question.text) is not None and self._exit_due is None:
            loop = asyncio.get_running_loop()
            self._question_due = loop.call_later(QUESTION_SECONDS, self._stop_for_question, question)

    def _stop_for_question(self, question: str) -> None:
        self._asked, self._takes_steers = question, False
        self._stop_program(signal.SIGTERM)

    def _stop_waiting_for_answer(self) -> None:
        if self._question_due is not None:
            self._question_due.cancel()
            self._question_due = None

    def _stop_waiting_for_exit(self) -> None:
        if self._exit_due is not None:
            self._exit_due.cancel()
            self._exit_due = None

    def _stop_program(self, number: signal.Signals) -> None:
        """End a program that does not exit after its result, or that asks nobody: first with SIGTERM, then SIGKILL."""
        logger.warning(
            "A CLI does not exit after its last turn, or waits for an answer", extra={"action": "exit_overdue"}
        )
        self.process.tree.signal_group(number)
        loop = asyncio.get_running_loop()
        self._exit_due = loop.call_later(EXIT_SECONDS, self._stop_program, signal.SIGKILL)


def _tell(clock: WorkClock, event: TurnEvent, at: float) -> None:
    """Tell the clock of an event by which it stands still, or goes on."""
    match event:
        case RequestOpened():
            clock.request_opened(event.id, at, tool_call=event.tool_call, parent=event.parent)
        case RequestAnswered() | RequestWithdrawn():
            clock.request_closed(event.id, at)
        case ToolCall():
            asks = event.kind == "other" and (event.name.endswith(ASK_TOOL) or event.title.startswith(ASK_TOOL))
            clock.tool_began(event.id, at, parent=event.parent, asks=asks)
        case ToolCallEnded():
            clock.tool_ended(event.id, at)
        case BackgroundSubagents():
            clock.background(event.tool_calls, at)
        case TurnStarted():
            clock.turn_began(at)
        case TurnEnded():
            clock.turn_ended(at)
        case _:
            pass


def _terminal_lines(text: str) -> bytes:
    """Text with the line ends that a terminal needs."""
    return text.replace("\n", "\r\n").encode(errors="replace")
