"""The viewers' WebSocket, `/v1/agents/{id}/terminal`: a viewer attaches, then receives the terminal's bytes live."""

from __future__ import annotations

import asyncio
import logging
import time

from psycopg.rows import DictRow
from starlette.websockets import WebSocket, WebSocketDisconnect

from onsembl.api.auth.accounts import RETRY_SECONDS
from onsembl.api.auth.operator import Operator
from onsembl.api.http.client_address import client_address
from onsembl.api.http.problems import Problem
from onsembl.api.instances.relay_connection import RelayFailed
from onsembl.api.instances.relayed_terminal import RelayedControl, RelayedTerminal
from onsembl.api.notifier import Notifier
from onsembl.api.services import Services
from onsembl.api.terminals.catch_up import place, read_back
from onsembl.api.terminals.control import ViewerControl
from onsembl.api.terminals.direct_socket import direct_socket, send_now, send_text
from onsembl.api.terminals.hub import Hub
from onsembl.api.terminals.sessions import (
    DATABASE_UNAVAILABLE,
    ELSEWHERE,
    EXPIRED,
    FAILED,
    HEARTBEAT_LOST,
    KEY_REMOVED,
    MAX_REASON,
    MESSAGE_WINDOW_SECONDS,
    ConnectionRejected,
    close_socket,
    rejection_by,
)
from onsembl.api.terminals.stream_resumption import refill
from onsembl.api.terminals.terminal import Terminal
from onsembl.api.terminals.viewed_terminal import Sample, Size, ViewedTerminal
from onsembl.api.terminals.viewer import MAX_FRAME_BYTES, Viewer, times_message
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.heartbeat import Heartbeat
from onsembl.protocol.ids import AgentId, Epoch, OperatorId, StreamId
from onsembl.protocol.messages import (
    FIRST_MESSAGE_SECONDS,
    TERMINAL_SUBPROTOCOL,
    Attach,
    BadMessage,
    Gap,
    GrantControl,
    Keys,
    Message,
    Ping,
    Pong,
    ReleaseControl,
    Resize,
    TakeControl,
    Token,
    ViewerMessage,
    decode_from_viewer,
    encode,
    too_big,
)
from onsembl.protocol.rates import SlidingWindow
from onsembl.protocol.states import Role
from onsembl.sql import agents, archive
from onsembl.sql.database import DATABASE_ERRORS, Connection

logger = logging.getLogger(__name__)

ROLE_CHANGED = "Your role has changed."


async def terminal_socket(websocket: WebSocket) -> None:
    """The ASGI endpoint."""
    services: Services = websocket.app.state.services
    address = client_address(websocket)
    try:
        _admit(websocket, services, address)
    except Problem as problem:
        services.rejections.record("terminal socket", problem.detail, address)
        await websocket.send_denial_response(problem.response())
        return
    agent_id = AgentId(websocket.path_params["agent_id"])
    if agent_id not in services.hub.links:
        replay = await services.affinity.replay(websocket.headers, agent_id)
        if replay is not None:
            await websocket.send_denial_response(replay)
            return
    if services.drain.begun and agent_id not in services.hub.links and not services.drain.is_moving(agent_id):
        await websocket.send_denial_response(services.drain.refusal(websocket.headers))
        return
    await websocket.accept(subprotocol=TERMINAL_SUBPROTOCOL)
    try:
        await ViewerSession(websocket, services, agent_id).run()
    except ConnectionRejected as rejected:
        if rejected.code.is_rejection:
            services.rejections.record("terminal socket", rejected.reason[:MAX_REASON], address)
        await close_socket(websocket, rejected.code, rejected.reason)
    except WebSocketDisconnect:
        return
    except DATABASE_ERRORS as error:
        logger.warning(
            "A viewer's session was closed by a database error: %s", error, extra={"action": "viewer_failed"}
        )
        await close_socket(websocket, CloseCode.INTERNAL_ERROR, DATABASE_UNAVAILABLE)
    except Exception:
        logger.exception("A viewer's session failed by an internal error", extra={"action": "viewer_failed"})
        await close_socket(websocket, CloseCode.INTERNAL_ERROR, FAILED)


def _admit(websocket: WebSocket, services: Services, address: str) -> None:
    """Raises Problem when the handshake is to be rejected."""
    if TERMINAL_SUBPROTOCOL not in websocket.scope["subprotocols"]:
        raise Problem(400, f"This WebSocket requires the subprotocol {TERMINAL_SUBPROTOCOL}.")
    services.rate_limiter.count_connection(address)


class ViewerSession:
    """One viewer of one agent's terminal, from its attach until the connection is closed.

    It is the hub's ViewerLink and the terminal's TerminalSubscriber of this viewer.
    """

    def __init__(self, websocket: WebSocket, services: Services, agent_id: AgentId) -> None:
        self._websocket = websocket
        self._services = services
        self._hub: Hub = services.hub
        self._tokens = services.operator_tokens
        self.agent_id = agent_id
        self._operator: Operator
        self._token = ""
        """The operator's newest access token."""
        self._acted = False
        """Whether the operator has acted since the account was last checked."""
        self._acts = Notifier()
        self._control: ViewerControl | RelayedControl
        self._viewer: Viewer
        self._terminal: ViewedTerminal
        self._address = client_address(websocket)
        settings = services.settings
        self._heartbeat = Heartbeat(settings.heartbeat, settings.heartbeat_timeout, now=time.monotonic())
        self._messages = SlidingWindow(settings.limits.messages_per_second, MESSAGE_WINDOW_SECONDS)
        self._changed = asyncio.Event()
        self._direct = direct_socket(websocket)
        if self._direct is not None:
            self._direct.bound_buffers()
        self._waits = False
        """Whether the viewer has every byte, and its pump waits."""
        self._timed: Sample | None = None
        self.delivered = 0
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # The methods of ViewerLink, for the hub

    @property
    def operator_id(self) -> OperatorId:
        return self._operator.id

    async def authorize_again(self) -> None:
        """Close the connection unless the access token still allows it, with the same role."""
        try:
            operator = await self._authorize(self._token)
        except ConnectionRejected as rejected:
            self.close(rejected.code, rejected.reason)
        except DATABASE_ERRORS:
            self.close(CloseCode.INTERNAL_ERROR, DATABASE_UNAVAILABLE)
        else:
            if operator.role != self._operator.role:
                self.close(CloseCode.TOKEN_EXPIRED, ROLE_CHANGED)

    def close(self, code: CloseCode, reason: str) -> None:
        if not self._closed.done():
            self._closed.set_exception(ConnectionRejected(code, reason))

    # The session

    async def run(self) -> None:
        """Serve the viewer. Raises ConnectionRejected or WebSocketDisconnect at its end."""
        attach = await self._first_message()
        self._operator = await self._authorize(attach.access_token)
        self._token = attach.access_token
        terminal = await self._find_terminal()
        if isinstance(terminal, RelayedTerminal):
            self._control = RelayedControl(terminal, self._send, lambda: self._operator, self._address)
        else:
            await refill(self._services.pool, terminal)
            self._control = ViewerControl(
                self._services, self.agent_id, terminal, self._send, lambda: self._operator, self._address
            )
        stream_id = StreamId(attach.stream_id) if attach.stream_id else None
        viewer = await place(self._services.pool, terminal, stream_id, attach.offset, timed=attach.times)
        self._viewer, self._terminal = viewer, terminal
        terminal.subscribe(self)
        self._hub.viewers.add(self)
        self._control.connected(attach.client_id)
        if viewer.attached.mode != "exact" and viewer.attached.offset > 0:
            await self._control.request_redraw()
        tasks = [
            self._closed,
            asyncio.create_task(self._pump(), name=f"viewer of {self.agent_id}"),
            asyncio.create_task(self._read(), name=f"viewer's messages of {self.agent_id}"),
            asyncio.create_task(self._watch(), name=f"viewer's heartbeat of {self.agent_id}"),
        ]
        try:
            # A message about this operator or this agent may have arrived before the hub had the viewer.
            await self._authorize(attach.access_token)
            if terminal.ended:
                raise ConnectionRejected(CloseCode.ELSEWHERE, ELSEWHERE)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._hub.remove_viewer(self)
            self._control.disconnected()
            terminal.unsubscribe(self)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _first_message(self) -> Attach:
        try:
            async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
                message = await self._receive()
        except TimeoutError as error:
            raise ConnectionRejected(CloseCode.HELLO_TIMEOUT, "No attach message within 5 seconds.") from error
        if not isinstance(message, Attach):
            raise ConnectionRejected(CloseCode.BAD_MESSAGE, "The first message must be attach.")
        return message

    async def _authorize(self, token: str) -> Operator:
        try:
            return await self._services.authorize(token, Role.VIEWER, self._address)
        except Problem as problem:
            rejected = rejection_by(problem)
            if rejected.code is CloseCode.UNAUTHENTICATED:
                try:
                    self._services.rate_limiter.record_invalid_token(self._address)
                except Problem as too_often:
                    rejected = rejection_by(too_often)
            raise rejected from problem

    async def _find_terminal(self) -> Terminal | RelayedTerminal:
        """The agent's terminal; of an agent that is connected elsewhere, the one that is relayed from there. Raises
        ConnectionRejected."""
        terminal = self._hub.terminals.get(self.agent_id)
        if terminal is not None and self.agent_id in self._hub.links:
            return terminal
        async with self._services.pool.connection() as conn:
            await self._row(conn)  # only an agent that exists has a lock
        owner = (await self._services.affinity.elsewhere([self.agent_id])).get(self.agent_id)
        if owner is not None:
            try:
                return await self._services.relays.terminal(self.agent_id, owner)
            except RelayFailed as error:
                raise ConnectionRejected(CloseCode.ELSEWHERE, ELSEWHERE) from error
        async with self._hub.connecting[self.agent_id]:  # the agent does not connect here meanwhile
            return await self._terminal_of_absent()

    async def _row(self, conn: Connection) -> DictRow:
        row = await agents.get(conn, self.agent_id)
        if row is None:
            raise ConnectionRejected(CloseCode.NOT_FOUND, "Agent not found.")
        return row

    async def _terminal_of_absent(self) -> Terminal:
        async with self._services.pool.connection() as conn:
            row = await self._row(conn)
            stream_id = StreamId(row["stream_id"]) if row["stream_id"] else None
            archived = await archive.end(conn, stream_id) if stream_id else 0
        epoch = Epoch(row["epoch"])
        if self.agent_id not in self._hub.links:
            self._hub.release(self.agent_id, epoch)  # it has been connected to another instance since
        terminal = self._hub.terminal(self.agent_id, stream_id, archived, Size(row["columns"], row["rows"]), epoch)
        # Asked last: a connection elsewhere that begins later is told of, and then finds this terminal.
        owner = (await self._services.affinity.elsewhere([self.agent_id])).get(self.agent_id)
        if owner is not None:
            self._hub.release(self.agent_id, owner.epoch, elsewhere=True)
            raise ConnectionRejected(CloseCode.ELSEWHERE, ELSEWHERE)
        return terminal

    async def _catch_up(self, viewer: Viewer, terminal: ViewedTerminal) -> None:
        """Send a viewer that is behind the ring the bytes up to the ring, from the archive.

        Bytes that the archive lacks become a gap, and so do all of the bytes when the viewer is too far behind to catch
        up.
        """
        while (lacks := viewer.lacks) is not None:
            data, times = await read_back(self._services.pool, terminal, *lacks)
            if not data:
                return
            if viewer.timed:
                marks = times.marks(lacks[0], lacks[0] + len(data))
                await self._send(times_message(marks, times.exact_from))
            for at in range(0, len(data), MAX_FRAME_BYTES):
                frame = data[at : at + MAX_FRAME_BYTES]
                await self._websocket.send_bytes(frame)
                viewer.advance(len(frame))

    async def _pump(self) -> None:
        """Send the frames that the viewer lacks, as fast as it takes them. A slow viewer delays only itself."""
        await self._send(self._viewer.attached)
        await self._send(
            self._viewer.controlled()
        )  # also without a controller: the page may assume it still has control
        self._timed = self._terminal.sample
        while True:
            self._changed.clear()
            while True:
                await self._catch_up(self._viewer, self._terminal)
                if (frame := self._next()) is None:
                    break
                if isinstance(frame, bytes):
                    await self._websocket.send_bytes(frame)
                    self.delivered += 1
                    self._observe()
                else:
                    await self._send(frame)
                    if isinstance(frame, Gap):
                        await self._control.request_redraw()
            if self._direct is not None:
                self._direct.write_at_once()
            self._waits = True
            await self._changed.wait()
            self._waits = False

    # The methods of TerminalSubscriber, for the terminal

    def follow(self, start: int, data: bytes) -> None:
        """Send new bytes at once, if the viewer has all earlier bytes and its socket has room."""
        direct = self._direct
        if not self._waits or direct is None or not direct.has_room:
            self.wake()
            return
        if (times := self._viewer.due_times(start)) is not None:
            direct.write_text(encode(times))
        if self._viewer.follow(start, data):
            direct.write(data)
            self.delivered += 1
            if self._terminal.sample is not self._timed:
                self._observe()
        else:
            self.wake()

    def wake(self) -> None:
        """Wake the pump."""
        self._waits = False
        self._changed.set()

    def _next(self) -> bytes | Message | None:
        return self._control.next_answer() or self._viewer.next()

    def _observe(self) -> None:
        """Measure how long the newest timed chunk took from the agent to this viewer."""
        sample = self._terminal.sample
        if sample is not self._timed and sample is not None and sample.end <= self._viewer.offset:
            self._timed = sample
            self._services.metrics.relay.observe(time.monotonic() - sample.at)

    async def _send(self, message: Message) -> None:
        await send_text(self._websocket, encode(message))

    async def _receive(self) -> ViewerMessage:
        event = await self._websocket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", 1005))
        text = event.get("text")
        if text is None or too_big(text):
            raise ConnectionRejected(CloseCode.BAD_MESSAGE, "A viewer may send only text frames of at most 1 MiB.")
        try:
            return decode_from_viewer(text)
        except BadMessage as error:
            raise ConnectionRejected(CloseCode.BAD_MESSAGE, str(error)) from error

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if not self._messages.add(time.monotonic()):
                raise ConnectionRejected(CloseCode.RATE_LIMITED, "Too many messages.")
            self._heartbeat.received(time.monotonic())
            try:
                await self._apply(message)
            except (ConnectionRejected, WebSocketDisconnect, *DATABASE_ERRORS):
                raise
            except Exception:
                logger.exception("A viewer's message could not be applied", extra={"action": "viewer_message_failed"})

    async def _apply(self, message: ViewerMessage) -> None:
        match message:
            case Pong():
                pass
            case Ping():
                await self._send(Pong())
            case Attach():
                raise ConnectionRejected(CloseCode.BAD_MESSAGE, "The attach message may be sent once only.")
            case Token():
                operator = await self._authorize(message.access_token)
                if operator.id != self._operator.id:
                    raise ConnectionRejected(CloseCode.FORBIDDEN, "The token is another operator's.")
                self._operator, self._token = operator, message.access_token
            case Resize():
                self._act()
                await self._control.resize(message)
            case Keys() | TakeControl() | GrantControl() | ReleaseControl():
                self._act()
                await self._control.receive(message)

    def _act(self) -> None:
        """The operator acts: the account is checked soon, and the message is not delayed by it."""
        self._acted = True
        self._acts.notify_all()

    async def _watch(self) -> None:
        """Send heartbeats, and end the session when they are lost or the operator's token is no longer valid."""
        while True:
            left = self._operator.expires_at - time.time()
            if left <= 0:
                raise ConnectionRejected(CloseCode.TOKEN_EXPIRED, EXPIRED)
            if not self._tokens.knows(self._operator):
                raise ConnectionRejected(CloseCode.TOKEN_EXPIRED, KEY_REMOVED)
            if self._acted:
                self._acted = False
                await self.authorize_again()
                if self._services.accounts.is_unanswered(self._operator):
                    self._acted = True  # the account is yet to be checked
            seconds = min(left, self._heartbeat.deadline - time.monotonic())
            if self._acted:
                seconds = min(seconds, RETRY_SECONDS)
            await self._tokens.keys_changed.wait(max(0.0, seconds), self._acts)
            match self._heartbeat.poll(time.monotonic()):
                case "ping":
                    if not send_now(self._websocket, encode(Ping())):
                        self._heartbeat.postpone(time.monotonic())
                case "lost":
                    raise ConnectionRejected(CloseCode.HEARTBEAT_LOST, HEARTBEAT_LOST)
                case None:
                    pass
