"""What an agent and the server say to each other over one connection after another. No I/O and no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from onsembl.agent.errors import AgentError
from onsembl.agent.process.terminal import AgentTerminal
from onsembl.protocol.control import KeyDeduplicator
from onsembl.protocol.keyboard_messages import KeysRejection
from onsembl.protocol.limits import LimitName
from onsembl.protocol.messages import (
    MAX_OUTPUT_BYTES,
    Acknowledged,
    BadMessage,
    Cancel,
    EndRecorded,
    Halt,
    HaltLifted,
    Hello,
    Keys,
    Leave,
    Message,
    Offer,
    Ping,
    Pong,
    Redraw,
    Resend,
    Resize,
    SizeApplied,
    StreamTail,
    Tokens,
    Welcome,
    decode_from_server,
    encode,
    encode_output,
)
from onsembl.protocol.stop_timeouts import StopTimeouts
from onsembl.protocol.stream import StreamError


class Orders(Protocol):
    """What the server's messages are handed to, and what is asked when it is time to say hello.

    `halt_lifted` has the number of the newest halt that is over; None when the server knows of none in force.
    `once_read` calls back, in order, when the program has read nearly all that was typed, or is not waited for.
    """

    def offer(self, offer: Offer) -> None: ...
    def cancel(self, command_id: UUID, limit: LimitName | None) -> None: ...
    def take_times(self, times: StopTimeouts) -> None: ...
    def resize(self, columns: int, rows: int) -> None: ...
    def type(self, keys: Keys) -> KeysRejection | None: ...
    def once_read(self, answer: Callable[[], None]) -> None: ...
    def redraw(self) -> None: ...
    def recorded(self, command_id: UUID) -> None: ...
    def halt(self, halt: Halt) -> None: ...
    def halt_lifted(self, number: int | None) -> None: ...
    def leave(self, *, restart: bool) -> None: ...
    def hello(self, stream: StreamTail | None) -> Hello: ...


class Conversation:
    """Frames out by `next_frame`, frames in by `receive`; `on_frame` is called when there is a frame to send,
    `on_tokens` when the server gives the next pair."""

    def __init__(self, terminal: AgentTerminal, orders: Orders) -> None:
        self._terminal = terminal
        self._orders = orders
        self._control: deque[Message] = deque()
        self._open = False
        self._typed = KeyDeduplicator()
        self.on_frame: Callable[[], None] = lambda: None
        self.on_tokens: Callable[[Tokens], None] = lambda tokens: None
        self.taken = 0
        """How many times the server has taken output; a connection over which it does is a good one."""
        terminal.on_output = self._there_is_output

    @property
    def idle(self) -> bool:
        """Whether the server has everything."""
        return not self._control and self._terminal.outbox.start == self._terminal.outbox.end

    def begin(self) -> str:
        """A new connection: the frame to send first.

        It says all that is so now. What is said from here on waits for the welcome, and is not lost should the
        connection break: the next hello has it.
        """
        outbox = self._terminal.outbox
        stream = None
        if outbox.stream_id is not None:
            stream = StreamTail(id=outbox.stream_id, start=outbox.start, end=outbox.end)
        self._control.clear()
        self._open = True
        return encode(self._orders.hello(stream))

    def welcomed(self, frame: str | bytes) -> Welcome:
        """The server's answer to the first frame. Raises AgentError."""
        welcome = _decode(frame)
        if not isinstance(welcome, Welcome):
            raise AgentError("The server does not speak this version of the protocol.")
        # Where the server begins a new stream, what it has not acknowledged of the old one comes first in it.
        self._terminal.outbox.began(welcome.stream_id)
        if welcome.halt is not None:
            self._orders.halt(welcome.halt)
        else:
            self._orders.halt_lifted(None)
        if welcome.cancel_times is not None:
            self._orders.take_times(welcome.cancel_times)
        try:
            self._terminal.resume(welcome.resume_offset)
        except StreamError as error:
            raise AgentError(f"The server wants what this agent does not have: {error}") from error
        return welcome

    def end(self) -> None:
        """The connection is over."""
        self._open = False
        self._terminal.unlinked()

    def say(self, message: Message) -> None:
        """Send a message ahead of output. With no connection it is dropped: the next hello says it all."""
        if self._open:
            self._control.append(message)
            self.on_frame()

    def next_frame(self) -> str | bytes | None:
        """The next frame to send; None when there is nothing to say. Output never keeps a message waiting for long."""
        if self._control:
            return encode(self._control.popleft())
        output = self._terminal.next_frame(MAX_OUTPUT_BYTES)
        return encode_output(*output) if output is not None else None

    def receive(self, frame: str | bytes) -> None:
        """A frame of the server. Raises AgentError when it makes no sense."""
        match message := _decode(frame):
            case Acknowledged():
                try:
                    self._terminal.acknowledged(message.offset)
                except StreamError as error:
                    raise AgentError(f"The server contradicts itself: {error}") from error
                self.taken += 1
            case Resend():
                try:
                    self._terminal.resume(message.offset)
                except StreamError as error:
                    raise AgentError(f"The server contradicts itself: {error}") from error
                self.on_frame()
            case Offer():
                self._orders.offer(message)
            case Cancel():
                self._orders.cancel(message.command_id, message.limit)
            case Halt():
                self._orders.halt(message)
            case HaltLifted():
                self._orders.halt_lifted(message.number)
            case Leave():
                self._orders.leave(restart=message.restart)
            case EndRecorded():
                self._orders.recorded(message.command_id)
            case Resize():
                self._orders.resize(message.columns, message.rows)
                # What is on its way was written for the size before.
                self.say(SizeApplied(columns=message.columns, rows=message.rows, offset=self._terminal.end))
            case Keys():
                answer = self._typed.answer_to(message)
                if answer is not None:
                    self.say(answer)
                else:  # noted at once, for they may come again; told at the program's pace
                    taken = self._typed.record(message, self._orders.type(message))
                    self._orders.once_read(lambda: self.say(taken))
            case Redraw():
                self._orders.redraw()
            case Ping():
                self.say(Pong())
            case Tokens():
                self.on_tokens(message)
            case Pong():
                pass
            case _:
                raise AgentError(f"The server says {type(message).__name__.lower()} where it has no place.")

    def _there_is_output(self) -> None:
        self.on_frame()


def _decode(frame: str | bytes) -> Message:
    try:
        return decode_from_server(frame)
    except BadMessage as error:
        raise AgentError(f"The server says what this version does not understand: {error}") from error
