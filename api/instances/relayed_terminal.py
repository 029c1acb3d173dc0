"""The terminal of an agent that is connected to another instance, as that instance relays it.

It is on the path of terminal bytes: nothing here waits, or changes a byte. Viewers read its ring as they read the
owner's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import UUID

from onsembl.api.auth.operator import Operator
from onsembl.api.terminals.viewed_terminal import Size, TerminalSubscriber, ViewedTerminal
from onsembl.protocol.control import Client, UnansweredKeys
from onsembl.protocol.field_types import Message as AnyMessage
from onsembl.protocol.ids import AgentId, Epoch, StreamId
from onsembl.protocol.messages import (
    Attached,
    Controlled,
    Gap,
    GrantControl,
    Keys,
    KeysTaken,
    Message,
    ReleaseControl,
    Resize,
    Resized,
    StreamStarted,
    TakeControl,
    Times,
)
from onsembl.protocol.relay_messages import (
    FromPage,
    PageClosed,
    PageMessage,
    PageOpened,
    RedrawWanted,
    RelayedOperator,
)
from onsembl.protocol.relay_streams import RelayError
from onsembl.protocol.states import Role
from onsembl.protocol.stream import MAX_OFFSET

UNKNOWN_SIZE = Size(80, 24)


class Channel(Protocol):
    """The channel on which the owner sends this terminal, and takes what its viewers send."""

    number: int

    def post(self, message: AnyMessage) -> None:
        """Send a message soon, without waiting."""
        ...

    async def send(self, message: AnyMessage) -> None:
        """Send a message; wait while many others wait."""
        ...


class RelayedTerminal(ViewedTerminal):
    """The copy of one agent's terminal. `on_viewers` is called when viewers have come or left."""

    archived_elsewhere = True

    def __init__(self, ring_bytes: int, agent_id: AgentId, on_viewers: Callable[[RelayedTerminal], None]) -> None:
        super().__init__(ring_bytes, None, 0, UNKNOWN_SIZE)
        self.agent_id = agent_id
        self._on_viewers = on_viewers
        self.channel: Channel | None = None
        """None while the owner is lost, or looked for."""
        self.pages: dict[int, RelayedControl] = {}
        self._page_number = 0
        self.attached = asyncio.Event()
        """Set once the owner has answered for the first time, or the terminal has ended without."""
        self.moved = asyncio.Event()
        """Set when the agent has connected again."""

    @property
    def upto(self) -> int:
        """The offset up to which a viewer may have seen the stream: it may have seen bytes that have yet to come."""
        return MAX_OFFSET

    def unarchived(self, start: int, count: int) -> bytes:
        """Empty: the bytes that wait for the archive are at the owner."""
        return b""

    def comes_again(self, start: int) -> bool:
        """False: bytes that an owner's ring lacks are not sent again by way of the relay."""
        return False

    def subscribe(self, subscriber: TerminalSubscriber) -> None:
        """Call the subscriber whenever there is something new."""
        super().subscribe(subscriber)
        self._on_viewers(self)

    def unsubscribe(self, subscriber: TerminalSubscriber) -> None:
        """Call the subscriber no more."""
        super().unsubscribe(subscriber)
        self._on_viewers(self)

    def next_page(self) -> int:
        """The number of another page."""
        self._page_number += 1
        return self._page_number

    def end(self) -> None:
        """The agent is relayed no more: let the viewers go, and those who wait for the owner."""
        super().end()
        self.attached.set()

    # From the owner

    def watched(self, channel: Channel, epoch: Epoch, attached: Attached) -> None:
        """The owner begins to send, on this channel, or goes on after the last byte that came from another."""
        self.epoch = max(self.epoch, epoch)
        self.channel = channel
        stream_id = StreamId(attached.stream_id) if attached.stream_id is not None else None
        if attached.mode == "exact" and stream_id == self.stream_id and attached.offset == self.ring.end:
            self.resized(Resized(columns=attached.columns, rows=attached.rows))
        else:
            self._begin(stream_id, attached.offset, Size(attached.columns, attached.rows), attached.modes)
        for page in self.pages.values():
            page.open()
        self.attached.set()

    def lost(self) -> None:
        """The channel is over; another may follow. Who types is not known meanwhile."""
        self.channel = None
        self.controlled(Controlled(controller=None))

    def take(self, channel: Channel, offset: int, data: bytes) -> None:
        """Take the next bytes. Raises RelayError if they do not continue the ring, or come from no present owner."""
        if channel is not self.channel:
            raise RelayError("bytes came before the answer to watch")
        if offset != self.ring.end:
            raise RelayError(f"bytes at {offset} came where {self.ring.end} is next")
        self._append(data, offset + len(data))

    def told(self, channel: Channel, message: Gap | StreamStarted | Resized | Times | Controlled) -> None:
        """Take a message for all viewers at this place in the stream. Raises RelayError if it comes from no present
        owner."""
        if channel is not self.channel:
            raise RelayError("a message for viewers came before the answer to watch")
        match message:
            case Gap():
                self._begin(self.stream_id, message.offset, self.size, message.modes)
            case StreamStarted():
                self._begin(StreamId(message.stream_id), message.offset, Size(message.columns, message.rows), "")
            case Resized():
                self.resized(message)
            case Times():
                marks = zip(message.offsets, message.seconds, strict=False)
                new = [mark for mark in marks if mark[0] > self.times.newest]  # the others came from the owner before
                self.times.extend(new, message.exact_from)
                self.wake()
            case Controlled():
                self.controlled(message)

    def _begin(self, stream_id: StreamId | None, offset: int, size: Size, modes: str) -> None:
        times = self.times if stream_id == self.stream_id else None
        self._set_stream(stream_id, offset, size)
        if times is not None:  # the owner sends each mark once
            self.times = times
        self.modes.prepend(modes.encode(), offset - len(modes))
        self.wake()

    def resized(self, message: Resized) -> None:
        """The pseudo-terminal has this size from the next byte on."""
        size = Size(message.columns, message.rows)
        if size != self.size:
            self.sizes.change(self.ring.end, size)
            self.wake()

    def controlled(self, message: Controlled) -> None:
        """Take over who has control and who waits for it."""
        control = self.control
        controller = message.controller
        control.controller = Client(controller.client_id, controller.name) if controller is not None else None
        control.waiting = [Client(client.client_id, client.name) for client in message.waiting]
        control.version += 1
        self.wake()


class RelayedControl:
    """One viewer's control of a relayed terminal, and its keyboard messages, which the owner decides on.

    It does for a viewer here what `ViewerControl` does for one at the owner. `send` sends to the viewer; `operator`
    returns the operator of its newest token.
    """

    def __init__(
        self,
        terminal: RelayedTerminal,
        send: Callable[[Message], Awaitable[None]],
        operator: Callable[[], Operator],
        address: str,
    ) -> None:
        self._terminal = terminal
        self._send = send
        self._operator = operator
        self._address = address
        self._page = terminal.next_page()
        self._client_id: UUID | None = None
        self._opened: PageOpened | None = None
        self._pending = UnansweredKeys()
        self._answers: deque[KeysTaken] = deque()

    @property
    def _may_control(self) -> bool:
        role = self._operator().role
        return role is not None and role.includes(Role.OPERATOR)

    def connected(self, client_id: UUID | None) -> None:
        """The page with this client id has attached, perhaps again. It has its control back if it held it."""
        self._client_id = client_id
        if client_id is not None and self._may_control:
            self._terminal.pages[self._page] = self
            self.open()

    def open(self) -> None:
        """Introduce the page to the owner, which may be another one than before, and send it the unanswered keys."""
        self._opened = None
        if (channel := self._introduce()) is not None:
            for keys in self._pending.all():
                channel.post(FromPage(channel=channel.number, page=self._page, message=keys))

    def _introduce(self) -> Channel | None:
        """The channel to the owner, which knows the page by its operator's newest token; None while there is none."""
        channel, operator = self._terminal.channel, self._operator()
        if channel is None or operator.role is None:
            return None
        opened = PageOpened(
            channel=channel.number,
            page=self._page,
            operator=RelayedOperator(id=operator.id, email=operator.email[:256], role=operator.role),
            address=self._address[:256],
            client_id=self._client_id,
        )
        if opened != self._opened:
            channel.post(opened)
            self._opened = opened
        return channel

    def disconnected(self) -> None:
        """The page's connection was closed."""
        self._terminal.pages.pop(self._page, None)
        if self._opened is not None and (channel := self._terminal.channel) is not None:
            channel.post(PageClosed(channel=channel.number, page=self._page))
        self._opened = None

    async def receive(self, message: Keys | TakeControl | GrantControl | ReleaseControl) -> None:
        """Pass a message of the page on to the owner. Keys are rejected while there is none."""
        if isinstance(message, TakeControl):
            self._client_id = message.client_id
        if isinstance(message, Keys):
            refused = None if self._may_control else "not_in_control"
            if refused is None and self._terminal.channel is None:
                refused = "offline"
            if refused is None:
                added = self._pending.add(message)
                if added is False:
                    return  # the same message is under way
                refused = None if added is True else added
            if refused is not None:
                await self._send(KeysTaken(client_id=message.client_id, seq=message.seq, refused=refused))
                return
        if self._may_control:
            await self._pass(message)

    async def resize(self, message: Resize) -> None:
        """Pass the size of the page's window on to the owner."""
        if self._may_control:
            await self._pass(message)

    async def _pass(self, message: PageMessage) -> None:
        self._terminal.pages[self._page] = self
        if (channel := self._introduce()) is not None:
            await channel.send(FromPage(channel=channel.number, page=self._page, message=message))

    async def request_redraw(self) -> None:
        """Have a full-screen program draw its screen again, since this viewer lacks the bytes that drew it."""
        if (channel := self._terminal.channel) is not None:
            await channel.send(RedrawWanted(channel=channel.number))

    def answered(self, message: KeysTaken) -> None:
        """The owner or the agent has answered keys of this page: pass the answer on to the viewer."""
        self._pending.answered(message.seq)
        self._answers.append(message)
        self._terminal.wake()

    def next_answer(self) -> KeysTaken | None:
        """The next answer to send to the viewer, if any."""
        return self._answers.popleft() if self._answers else None
