"""The owner's side of the relay, `/v1/instances/relay`: the terminals of agents that are connected here, for another
instance and its viewers. Each terminal costs what one viewer costs, however many viewers the other instance has.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Coroutine
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from onsembl.api.auth.operator import Operator
from onsembl.api.http.client_address import client_address
from onsembl.api.http.dashboard import version
from onsembl.api.http.problems import Problem, no_database_answer, unauthenticated
from onsembl.api.instances.statistics import own_statistics
from onsembl.api.services import Services
from onsembl.api.terminals.catch_up import place, read_back
from onsembl.api.terminals.control import ViewerControl
from onsembl.api.terminals.direct_socket import DirectSocket, direct_socket, send_text
from onsembl.api.terminals.looks import AgentSilent, LookFailed
from onsembl.api.terminals.sessions import (
    DATABASE_UNAVAILABLE,
    ELSEWHERE,
    FAILED,
    HEARTBEAT_LOST,
    ConnectionRejected,
    close_socket,
)
from onsembl.api.terminals.stream_resumption import refill
from onsembl.api.terminals.terminal import Terminal
from onsembl.api.terminals.viewer import MAX_FRAME_BYTES, Viewer, times_message
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.field_types import Message
from onsembl.protocol.ids import AgentId, OperatorId, StreamId
from onsembl.protocol.messages import (
    BadMessage,
    Gap,
    Keys,
    KeysTaken,
    Resize,
    Times,
    encode,
    too_big,
)
from onsembl.protocol.relay_messages import (
    PING_SECONDS,
    RELAY_SUBPROTOCOL,
    AskStatistics,
    Credit,
    FromPage,
    LookAt,
    Looked,
    OwnStatistics,
    PageClosed,
    PageMessage,
    PageOpened,
    RedrawWanted,
    RelayRequest,
    StatisticsTold,
    ToPage,
    ToViewers,
    Unwatch,
    Watch,
    Watched,
    WatchEnded,
    decode_request,
    encode_bytes,
)
from onsembl.protocol.relay_streams import OutgoingStreams, RelayError
from onsembl.sql.database import DATABASE_ERRORS

logger = logging.getLogger(__name__)

MAX_PAGE_MESSAGES = 256
"""How many messages of one page may wait, while its control of the terminal is audited."""
MAX_TEXTS = 20_000
"""How many messages may wait for an instance that takes none, before its connection is closed."""
MISSED_PINGS = 5
"""An instance that sends nothing for the time of so many pings, not even one of them, counts as lost."""


async def relay_socket(websocket: WebSocket) -> None:
    """The ASGI endpoint."""
    services: Services = websocket.app.state.services
    address = client_address(websocket)
    try:
        await _authenticate(websocket, services, address)
    except Problem as problem:
        services.rejections.record("relay socket", problem.detail, address)
        await websocket.send_denial_response(problem.response())
        return
    except DATABASE_ERRORS as error:
        await websocket.send_denial_response(await no_database_answer(websocket, error))
        return
    await websocket.accept(subprotocol=RELAY_SUBPROTOCOL)
    try:
        await RelaySession(websocket, services).run()
    except WebSocketDisconnect:
        return
    except (BadMessage, RelayError) as error:
        services.rejections.record("relay socket", str(error), address)
        await close_socket(websocket, CloseCode.BAD_MESSAGE, str(error))
    except ConnectionRejected as rejected:
        await close_socket(websocket, rejected.code, rejected.reason)
    except Exception:
        logger.exception("A relay failed by an internal error", extra={"action": "relay_failed"})
        await close_socket(websocket, CloseCode.INTERNAL_ERROR, FAILED)


async def _authenticate(websocket: WebSocket, services: Services, address: str) -> None:
    """Check that another instance connects. Raises Problem, psycopg.Error or PoolTimeout."""
    if "origin" in websocket.headers:
        raise Problem(403, "This WebSocket is for instances, not for browsers.")
    if RELAY_SUBPROTOCOL not in websocket.scope["subprotocols"]:
        raise Problem(400, f"This WebSocket requires the subprotocol {RELAY_SUBPROTOCOL}.")
    scheme, _, token = websocket.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated("An instance presents its token in the Authorization header.")
    try:
        await services.instance_tokens.accept(token)
    except Problem:
        services.rate_limiter.record_invalid_token(address)
        raise


class RelaySession:
    """One connection of another instance: the streams that it watches here, and the pages of its viewers."""

    def __init__(self, websocket: WebSocket, services: Services) -> None:
        self._websocket = websocket
        self._services = services
        self._hub = services.hub
        self.streams = OutgoingStreams()
        self._served: dict[int, ServedStream] = {}
        self._texts: deque[Message] = deque()
        self._news = asyncio.Event()
        self.direct = direct_socket(websocket)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve the other instance. Raises WebSocketDisconnect, BadMessage, RelayError or ConnectionRejected at the
        end."""
        tasks = [
            self._failed,
            asyncio.create_task(self._pump(), name="relay to another instance"),
            asyncio.create_task(self._read(), name="messages of another instance"),
        ]
        if self.direct is not None:
            tasks.append(asyncio.create_task(self._listen(self.direct), name="pings of another instance"))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for channel in list(self._served):
                self._close(channel)
            for task in [*tasks, *self._tasks]:
                task.cancel()
            await asyncio.gather(*tasks, *self._tasks, return_exceptions=True)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that ends with the connection, and ends it if it fails."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._failed.done():
            self._failed.set_exception(error)

    # To the other instance

    def post(self, message: Message) -> None:
        """Send a control message, ahead of all bytes that wait."""
        self._texts.append(message)
        if len(self._texts) > MAX_TEXTS and not self._failed.done():
            self._failed.set_exception(ConnectionRejected(CloseCode.RATE_LIMITED, "Too many messages wait."))
        self._news.set()

    def has_news(self, channel: int) -> None:
        """This stream has something to send."""
        self.streams.has_news(channel)
        self._news.set()

    async def _pump(self) -> None:
        """Send control messages, then one frame of each stream in turn. A stream without credit loses its turn."""
        while True:
            self._news.clear()
            while self._texts:
                await send_text(self._websocket, encode(self._texts.popleft()))
            channel = self.streams.next_turn()
            if channel is None:
                if not self._texts and not self._news.is_set():
                    if self.direct is not None:
                        self.direct.write_at_once()
                    await self._news.wait()
                continue
            served = self._served.get(channel)
            frame = served.next() if served is not None else None
            if isinstance(frame, bytes):
                await self._websocket.send_bytes(frame)
                self.has_news(channel)
            elif frame is not None:
                await send_text(self._websocket, encode(frame))
                self.has_news(channel)

    # From the other instance

    async def _listen(self, direct: DirectSocket) -> None:
        """Wait until the other instance is silent. Raises ConnectionRejected then.

        The waits are counted: this process may itself have been stopped, and then has read nothing either.
        """
        missed = 0
        while missed < MISSED_PINGS:
            reads = direct.reads
            await asyncio.sleep(PING_SECONDS)
            missed = missed + 1 if direct.reads == reads else 0
        raise ConnectionRejected(CloseCode.HEARTBEAT_LOST, HEARTBEAT_LOST)

    async def _read(self) -> None:
        while True:
            event = await self._websocket.receive()
            if event["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(event.get("code", 1005))
            text = event.get("text")
            if text is None or too_big(text):
                raise BadMessage("An instance that relays sends only text frames of at most 1 MiB.")
            self._apply(decode_request(text))

    def _apply(self, message: RelayRequest) -> None:
        match message:
            case Watch():
                self.streams.open(message.channel)
                self.start(self._watch(message))
            case Unwatch():
                self._close(message.channel)
            case Credit():
                self.streams.grant(message.channel, message.count)
                self._news.set()
            case LookAt():
                self.start(self._look(message))
            case AskStatistics():
                own = OwnStatistics(release=version(), statistics=own_statistics(self._services))
                self.post(StatisticsTold(request_id=message.request_id, own=own))
            case RedrawWanted():
                if (served := self._served.get(message.channel)) is not None:
                    self.start(served.redraw())
            case PageOpened():
                if (served := self._served.get(message.channel)) is not None:
                    served.open_page(message)
            case FromPage():
                if (served := self._served.get(message.channel)) is not None:
                    served.receive(message)
            case PageClosed():
                if (served := self._served.get(message.channel)) is not None:
                    served.close_page(message.page)

    async def _watch(self, message: Watch) -> None:
        agent_id = AgentId(message.agent_id)
        terminal = self._hub.terminals.get(agent_id)
        if terminal is None:
            self.end(message.channel, ELSEWHERE)
            return
        stream_id = StreamId(message.stream_id) if message.stream_id is not None else None
        try:
            await refill(self._services.pool, terminal)
            viewer = await place(self._services.pool, terminal, stream_id, message.offset, timed=True)
        except (ConnectionRejected, *DATABASE_ERRORS) as error:
            self.end(message.channel, unread_reason(error))
            return
        if not self.streams.is_open(message.channel):  # it was closed while the archive was read
            return
        link = self._hub.links.get(agent_id)
        if link is None or link.epoch < message.epoch or self._hub.terminals.get(agent_id) is not terminal:
            self.end(message.channel, ELSEWHERE)
            return
        served = ServedStream(self, self._services, message.channel, agent_id, terminal, viewer)
        self._served[message.channel] = served
        self._services.relays.served.add(served)
        self.post(Watched(channel=message.channel, epoch=link.epoch, attached=viewer.attached))
        self.post(ToViewers(channel=message.channel, message=viewer.controlled()))
        terminal.subscribe(served)
        self.has_news(message.channel)
        if viewer.attached.mode != "exact" and viewer.attached.offset > 0:
            await served.redraw()

    def end(self, channel: int, reason: str) -> None:
        """Tell the other instance that this stream is over."""
        self._close(channel)
        self.post(WatchEnded(channel=channel, reason=reason))

    def _close(self, channel: int) -> None:
        self.streams.close(channel)
        if (served := self._served.pop(channel, None)) is not None:
            self._services.relays.served.discard(served)
            served.end()

    async def _look(self, message: LookAt) -> None:
        link = self._hub.links.get(AgentId(message.agent_id))
        if link is None:
            self.post(Looked(request_id=message.request_id, reason="The agent has just moved. Try again."))
            return
        try:
            seen = await self._hub.looks.look(link, message.path, message.rules)
        except LookFailed as error:
            silent = isinstance(error, AgentSilent)
            self.post(Looked(request_id=message.request_id, reason=str(error), silent=silent))
        else:
            self.post(Looked(request_id=message.request_id, seen=seen))


def unread_reason(error: Exception) -> str:
    """Why a stream ends whose archive could not be read: the other instance asks for it again."""
    if isinstance(error, ConnectionRejected):
        return error.reason
    logger.warning("A relay's archive cannot be read: %s", error, extra={"action": "archive_unread"})
    return DATABASE_UNAVAILABLE


class ServedStream:
    """One terminal for another instance: a cursor into its ring, and the pages of the viewers there. It is the
    terminal's TerminalSubscriber."""

    def __init__(
        self,
        session: RelaySession,
        services: Services,
        channel: int,
        agent_id: AgentId,
        terminal: Terminal,
        viewer: Viewer,
    ) -> None:
        self._session = session
        self._services = services
        self._channel = channel
        self.agent_id = agent_id
        self._terminal = terminal
        self._viewer = viewer
        self._waits = False
        """Whether everything was sent, and new bytes may be sent at once."""
        self._pages: dict[int, RelayedPage] = {}
        self._archived: deque[bytes | Times] = deque()
        """Bytes that had left the ring, within the stream's credit, and their times."""
        self._reading = False
        """Whether such bytes are read from the archive."""
        self._missing = -1
        """The offset of a byte that the archive was found to lack."""

    def next(self) -> bytes | Message | None:
        """The next frame, within the stream's credit; None when there is nothing to send, or no credit.

        Bytes that have left the ring come from the archive, as for a viewer of this instance.
        """
        viewer = self._viewer
        if self._archived:
            frame = self._archived.popleft()
            if not isinstance(frame, bytes):
                return ToViewers(channel=self._channel, message=frame)
            viewer.advance(len(frame))
            return self._sent(frame)
        room = self._session.streams.room(self._channel)
        lacks = viewer.lacks
        if self._reading or (lacks is not None and lacks[0] != self._missing and room > 0):
            self._waits = False
            if lacks is not None and not self._reading:
                self._reading = True
                self._session.start(self._catch_up(lacks[0], min(lacks[1], lacks[0] + room)))
            return None
        frame = viewer.next(min(room, MAX_FRAME_BYTES))
        if isinstance(frame, bytes):
            return self._sent(frame)
        self._waits = frame is None and room > 0
        if isinstance(frame, Gap):
            self._session.start(self.redraw())
        return ToViewers(channel=self._channel, message=frame) if frame is not None else None  # type: ignore[arg-type]

    def _sent(self, data: bytes) -> bytes:
        """The frame with the bytes before the viewer's place, which it uses up credit for."""
        self._session.streams.sent(self._channel, len(data))
        self._services.relays.sent += len(data)
        return encode_bytes(self._channel, self._viewer.offset - len(data), data)

    async def _catch_up(self, start: int, upto: int) -> None:
        """Read bytes that have left the ring. If the archive lacks them, too, they become a gap."""
        try:
            data, times = await read_back(self._services.pool, self._terminal, start, upto)
        except (ConnectionRejected, *DATABASE_ERRORS) as error:
            self._session.end(self._channel, unread_reason(error))
            return
        self._reading = False
        if data:
            marks = times.marks(start, start + len(data))
            self._archived.append(times_message(marks, times.exact_from))
            self._archived.extend(data[at : at + MAX_FRAME_BYTES] for at in range(0, len(data), MAX_FRAME_BYTES))
        else:
            self._missing = start
        self._session.has_news(self._channel)

    def end(self) -> None:
        """The stream is over: let its pages go."""
        self._terminal.unsubscribe(self)
        for page in list(self._pages):
            self.close_page(page)

    async def redraw(self) -> None:
        """Have a full-screen program draw its screen again, since a viewer lacks the bytes that drew it."""
        await self._services.hub.redraw(self.agent_id, self._terminal)

    # The methods of TerminalSubscriber, for the terminal

    def follow(self, start: int, data: bytes) -> None:
        """Send new bytes at once, if all earlier bytes are sent, and the stream and the connection have room."""
        session = self._session
        direct, streams, channel = session.direct, session.streams, self._channel
        if (
            self._waits
            and direct is not None
            and direct.has_room
            and len(data) <= streams.room(channel)
            and self._viewer.follow(start, data)
        ):
            streams.sent(channel, len(data))
            self._services.relays.sent += len(data)
            direct.write(encode_bytes(channel, start, data))
        else:
            self.wake()

    def wake(self) -> None:
        """Ask for a turn."""
        self._waits = False
        self._session.has_news(self._channel)

    def close(self, code: CloseCode, reason: str) -> None:
        """End the stream: the agent is elsewhere, or it has failed."""
        self._session.end(self._channel, reason)

    # Pages

    def open_page(self, message: PageOpened) -> None:
        """Take a page, or the newer token of its operator."""
        operator = Operator(
            id=OperatorId(message.operator.id),
            email=message.operator.email,
            role=message.operator.role,
            session_id="",
            expires_at=math.inf,  # the relaying instance closes the page then
        )
        page = self._pages.get(message.page)
        if page is None:
            page = RelayedPage(
                self._services, self.agent_id, self._terminal, self._session, self._channel, message, operator
            )
            self._pages[message.page] = page
            page.connected(message.client_id)
        page.signed_in = operator

    def receive(self, message: FromPage) -> None:
        """Act on a page's message, after its earlier ones."""
        if (page := self._pages.get(message.page)) is not None:
            page.enqueue(message.message)

    def close_page(self, number: int) -> None:
        """The page has left."""
        if (page := self._pages.pop(number, None)) is not None:
            page.disconnected()


class RelayedPage(ViewerControl):
    """A page of a viewer at another instance."""

    def __init__(
        self,
        services: Services,
        agent_id: AgentId,
        terminal: Terminal,
        session: RelaySession,
        channel: int,
        opened: PageOpened,
        operator: Operator,
    ) -> None:
        super().__init__(services, agent_id, terminal, self._answer, lambda: self.signed_in, opened.address)
        self.signed_in = operator
        self._session = session
        self._channel = channel
        self._number = opened.page
        self._messages: deque[PageMessage] = deque()
        self._working: asyncio.Task[None] | None = None

    async def _answer(self, message: Message) -> None:
        if isinstance(message, KeysTaken):
            self._session.post(ToPage(channel=self._channel, page=self._number, message=message))

    def keys_answered(self, message: KeysTaken) -> None:
        """The agent has answered a keyboard message of this page: pass the answer on to the other instance."""
        super().keys_answered(message)
        while (answer := self.next_answer()) is not None:
            self._session.post(ToPage(channel=self._channel, page=self._number, message=answer))

    def enqueue(self, message: PageMessage) -> None:
        """Act on a message after the earlier ones. Where too many wait, keys are rejected and the rest is dropped."""
        if len(self._messages) >= MAX_PAGE_MESSAGES:
            if isinstance(message, Keys):
                refused = KeysTaken(client_id=message.client_id, seq=message.seq, refused="too_much")
                self._session.post(ToPage(channel=self._channel, page=self._number, message=refused))
            return
        self._messages.append(message)
        if self._working is None:
            self._working = self._session.start(self._work())

    async def _work(self) -> None:
        try:
            while self._messages:
                message = self._messages.popleft()
                if isinstance(message, Resize):
                    await self.resize(message)
                else:
                    await self.receive(message)
        finally:
            self._working = None
