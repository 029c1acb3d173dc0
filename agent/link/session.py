"""The messages and the output between an agent and its server, across reconnects. No I/O and no clock."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

import msgspec

from onsembl.agent.errors import CannotWrite
from onsembl.agent.terminal import AgentTerminal
from onsembl.protocol.control import KeyDeduplicator
from onsembl.protocol.keyboard_messages import KeysRejection
from onsembl.protocol.limits import LimitName, received
from onsembl.protocol.messages import (
    MAX_OUTPUT_BYTES,
    Acknowledged,
    AgentProblem,
    Answer,
    BadMessage,
    Cancel,
    EndRecorded,
    Halt,
    HaltLifted,
    Hello,
    Keys,
    KeysTaken,
    Leave,
    Look,
    Message,
    Offer,
    Ping,
    Pong,
    Redraw,
    Resend,
    Resize,
    ServerToAgentMessage,
    SizeApplied,
    Steer,
    Steps,
    StepsRecorded,
    StreamTail,
    Tokens,
    Welcome,
    decode_from_server,
    encode_for_server,
    encode_output,
)
from onsembl.protocol.stop_timeouts import StopTimeouts
from onsembl.protocol.stream import StreamError

logger = logging.getLogger(__name__)


class ProtocolFault(Exception):
    """The connection cannot go on: this agent or its server is at fault. A new connection may work."""


class _AnyOffer(msgspec.Struct, tag_field="type", tag="offer"):
    """The offer of a command, of which only the id is understood."""

    command_id: UUID


class CommandHandler(Protocol):
    """Acts on the server's messages, and makes the hello of each connection.

    `fail` ends an offered command that this agent cannot understand. `problem` says why the agent's folder cannot be
    written, if it cannot; `offer` raises CannotWrite then.

    `halt_lifted` gets the number of the newest halt that is over, or None when the server has no halt in force.
    `next_steps` returns the next batch of steps, when there is one and none is on its way; `resend_steps` says that the
    batch on its way is lost. `requests_after_welcome` returns the messages about all requests that are open, for a
    server that takes them, `clock_after_welcome` those about the running command's clock; `lines_after_welcome` gets
    whether the server takes last lines. `when_read` calls back, in order, when the program has read nearly all typed
    keys, or does not read.
    """

    @property
    def problem(self) -> str | None: ...
    def offer(self, offer: Offer) -> None: ...
    def fail(self, command_id: UUID, error: str) -> None: ...
    def steer(self, steer: Steer) -> None: ...
    def requests_after_welcome(self, *, server_takes: bool) -> list[Message]: ...
    def clock_after_welcome(self, *, server_takes: bool) -> list[Message]: ...
    def lines_after_welcome(self, *, server_takes: bool) -> None: ...
    def answer(self, answer: Answer) -> None: ...
    def cancel(self, command_id: UUID, limit: LimitName | None) -> None: ...
    def set_stop_timeouts(self, timeouts: StopTimeouts) -> None: ...
    def resize(self, columns: int, rows: int) -> None: ...
    def type(self, keys: Keys) -> KeysRejection | None: ...
    def when_read(self, answer: Callable[[], None]) -> None: ...
    def redraw(self) -> None: ...
    def end_recorded(self, command_id: UUID) -> None: ...
    def recall(self, command_id: UUID) -> None: ...
    def next_steps(self) -> Steps | None: ...
    def resend_steps(self) -> None: ...
    def steps_recorded(self, command_id: UUID, through: int) -> None: ...
    def halt(self, halt: Halt) -> None: ...
    def halt_lifted(self, number: int | None) -> None: ...
    def leave(self, *, restart: bool) -> None: ...
    def look(self, look: Look) -> None: ...
    def hello(self, stream: StreamTail | None) -> Hello: ...


class ServerSession:
    """Frames to the server come from `next_frame`, the server's frames go to `receive`.

    `on_frame` is called when there is a frame to send, `on_tokens` when the server sends the next pair of tokens.
    """

    def __init__(self, terminal: AgentTerminal, handler: CommandHandler) -> None:
        self._terminal = terminal
        self._handler = handler
        self._messages: deque[str] = deque()
        self._open = False
        self._takes_steps = False
        self._takes_problems = False
        self._told_problem: str | None = None
        """The problem that the server knows."""
        self._problems = 0
        """How often the problem was told over this connection."""
        self._keys = KeyDeduplicator()
        self.on_frame: Callable[[], None] = lambda: None
        self.on_tokens: Callable[[Tokens], None] = lambda tokens: None
        self.version = ""
        """This agent's release, as its last hello said."""
        self.acknowledgements = 0
        """How often the server has acknowledged output; a connection over which it does has worked."""
        terminal.on_output = lambda: self.on_frame()

    @property
    def idle(self) -> bool:
        """Whether the server has every message and every byte."""
        return not self._messages and self._terminal.outbox.start == self._terminal.outbox.end

    def connect(self) -> str:
        """Start over on a new connection; return its first frame, the hello.

        The hello has the agent's whole present state. Messages that are sent from now on wait for the welcome. They
        are not lost if the connection breaks, because the next hello has the state again. Raises ProtocolFault.
        """
        outbox = self._terminal.outbox
        stream = None
        if outbox.stream_id is not None:
            stream = StreamTail(
                id=outbox.stream_id,
                start=outbox.start,
                end=outbox.end,
                sent_end=outbox.sent_end,
                earlier=outbox.earlier,
            )
        self._messages.clear()
        self._open = True
        self._takes_steps = self._takes_problems = False
        self._handler.resend_steps()
        hello = self._handler.hello(stream)
        self._told_problem, self._problems = hello.problem, 0
        self.version = hello.version
        try:
            return encode_for_server(hello)
        except BadMessage as error:
            raise ProtocolFault(f"This agent's hello is not valid: {error}") from error

    def receive_welcome(self, frame: str | bytes) -> Welcome:
        """Take the server's answer to the hello. Raises ProtocolFault."""
        try:
            welcome = decode_from_server(frame)
        except BadMessage as error:
            raise ProtocolFault(f"The server's welcome is not understood: {error}") from error
        if not isinstance(welcome, Welcome):
            raise ProtocolFault(f"The server answers the hello with {type(welcome).__name__.lower()}.")
        self._terminal.outbox.assign(welcome.stream_id, welcome.begins_at)
        if welcome.halt is not None:
            self._handler.halt(welcome.halt)
        else:
            self._handler.halt_lifted(None)
        if welcome.cancel_times is not None:
            self._handler.set_stop_timeouts(welcome.cancel_times)
        try:
            self._terminal.resume(welcome.resume_offset)
        except StreamError as error:
            raise ProtocolFault(f"The server asks for output that this agent does not have: {error}") from error
        self._takes_steps, self._takes_problems = welcome.takes_steps, welcome.takes_problems
        self.problem_changed()
        for message in self._handler.requests_after_welcome(server_takes=welcome.takes_requests):
            self.send(message)
        for message in self._handler.clock_after_welcome(server_takes=welcome.takes_work_clock):
            self.send(message)
        self._handler.lines_after_welcome(server_takes=welcome.takes_last_lines)
        for command_id in welcome.recall:
            self._handler.recall(command_id)
        return welcome

    def disconnected(self) -> None:
        """Note that the connection has ended."""
        self._open = False
        self._terminal.disconnected()

    def send(self, message: Message) -> None:
        """Send a message ahead of output. Without a connection it is dropped: the next hello has the state.

        So is a message that the server would reject: it must not end the connection.
        """
        if not self._open:
            return
        try:
            self._messages.append(encode_for_server(message))
        except BadMessage:
            logger.exception("A message is not valid", extra={"action": "message_dropped"})
        else:
            self.on_frame()

    def next_frame(self) -> str | bytes | None:
        """The next frame to send, messages before output; None when there is none."""
        if self._messages:
            return self._messages.popleft()
        if self._takes_steps and (steps := self._next_steps()) is not None:
            return steps
        output = self._terminal.next_frame(MAX_OUTPUT_BYTES)
        return encode_output(*output) if output is not None else None

    def _next_steps(self) -> str | None:
        """The next batch of steps; None also for one that the server would reject: it stays on this machine."""
        try:
            steps = self._handler.next_steps()
            return encode_for_server(steps) if steps is not None else None
        except Exception:
            logger.exception("Steps cannot be sent", extra={"action": "steps_failed"})
            return None

    @property
    def problem(self) -> str | None:
        """Why the agent's folder cannot be written; None while it can."""
        return self._handler.problem

    def problem_changed(self) -> None:
        """Report the agent's problem, or its end, to a server that takes it and does not know it."""
        if self._takes_problems and self._told_problem != self.problem:
            self._told_problem = self.problem
            self._problems += 1
            self.send(AgentProblem(problem=self.problem, number=self._problems))

    def receive(self, frame: str | bytes) -> None:
        """Take a frame of the server. A frame that cannot be understood or applied changes nothing else.

        Raises ProtocolFault when sender and receiver disagree about the stream. Raises CannotWrite when a command is
        offered that cannot be taken, unless the server knows the problem.
        """
        try:
            message = decode_from_server(frame)
        except BadMessage as error:
            self._not_understood(frame, error)
            return
        try:
            self._apply(message)
        except StreamError as error:
            raise ProtocolFault(f"The server contradicts itself: {error}") from error
        except CannotWrite:
            if not self._takes_problems:
                raise
        except Exception:
            kind = type(message).__name__.lower()
            logger.exception("A message of the server cannot be applied: %s", kind, extra={"action": "message_failed"})

    def _not_understood(self, frame: str | bytes, error: BadMessage) -> None:
        """The server is newer, or at fault. A command that is not understood ends, for its queue waits for it."""
        logger.warning("A message of the server is not understood: %s", error, extra={"action": "message_unknown"})
        try:
            offer = msgspec.json.decode(frame, type=_AnyOffer)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return
        self._handler.fail(offer.command_id, f"This version of the agent does not understand the command: {error}")

    def _apply(self, message: ServerToAgentMessage) -> None:
        match message:
            case Acknowledged():
                self._terminal.acknowledged(message.offset)
                self.acknowledgements += 1
            case Resend():
                self._terminal.resume(message.offset)
                self.on_frame()
            case Offer():
                if message.problems == self._problems:
                    self._handler.offer(message)
                # Otherwise the server made it before it knew the problem, and the command is in the queue again.
            case Steer():
                self._handler.steer(message)
            case Answer():
                self._handler.answer(message)
            case Cancel():
                self._handler.cancel(message.command_id, received(message.limit) if message.limit is not None else None)
            case Halt():
                self._handler.halt(message)
            case HaltLifted():
                self._handler.halt_lifted(message.number)
            case Leave():
                self._handler.leave(restart=message.restart)
            case EndRecorded():
                self._handler.end_recorded(message.command_id)
            case StepsRecorded():
                self._handler.steps_recorded(message.command_id, message.through)
            case Resize():
                self._handler.resize(message.columns, message.rows)
                # Bytes that are not sent yet were written for the size before.
                self.send(SizeApplied(columns=message.columns, rows=message.rows, offset=self._terminal.outbox.end))
            case Keys():
                answer = self._keys.answer_to(message)
                if answer is not None:
                    self.send(answer)
                else:  # recorded at once, for they may be sent again; answered at the program's pace
                    self._answer_when_read(self._keys.record(message, self._type(message)))
            case Redraw():
                self._handler.redraw()
            case Look():
                self._handler.look(message)
            case Ping():
                self.send(Pong())
            case Tokens():
                self.on_tokens(message)
            case Pong():
                pass
            case Welcome():
                logger.warning("The server sends a second welcome", extra={"action": "message_unknown"})

    def _answer_when_read(self, taken: KeysTaken) -> None:
        try:
            self._handler.when_read(lambda: self.send(taken))
        except Exception:
            logger.exception("It is not known when keys are read", extra={"action": "keys_failed"})
            self.send(taken)

    def _type(self, keys: Keys) -> KeysRejection | None:
        try:
            return self._handler.type(keys)
        except Exception:  # the page waits for an answer
            logger.exception("Keys cannot be typed", extra={"action": "keys_failed"})
            return "no_terminal"
