"""The agents' WebSocket, `/v1/agent`: authenticated at the door, then one session until either side leaves."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from onsembl.api.auth.agent_keys import AgentIdentity, kid_of
from onsembl.api.auth.agent_tokens import RefreshRejected
from onsembl.api.http.client_address import client_address
from onsembl.api.http.problems import Problem, no_database_answer
from onsembl.api.instances.halting import tell
from onsembl.api.services import Services
from onsembl.api.terminals.acknowledging import acknowledge
from onsembl.api.terminals.agent_door import authenticate
from onsembl.api.terminals.agent_records import ConnectionRejected, Presence
from onsembl.api.terminals.agent_reports import Reports, over
from onsembl.api.terminals.direct_input import DirectInput
from onsembl.api.terminals.direct_socket import send_text
from onsembl.api.terminals.hub import Hub
from onsembl.api.terminals.stream_resumption import held, resume
from onsembl.api.terminals.terminal import Size, Terminal
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.heartbeat import Heartbeat
from onsembl.protocol.ids import AgentId, CommandId, Epoch
from onsembl.protocol.messages import (
    AGENT_SUBPROTOCOL,
    FIRST_MESSAGE_SECONDS,
    MAX_MESSAGE_BYTES,
    Accepted,
    AgentMessage,
    BadMessage,
    CancelStep,
    Ended,
    EndRecorded,
    Halt,
    HaltProgress,
    Hello,
    KeysTaken,
    Ping,
    Pong,
    Redraw,
    Refresh,
    ServerToAgentMessage,
    SizeApplied,
    Tokens,
    Used,
    Welcome,
    decode_from_agent,
    decode_output,
    encode,
)
from onsembl.protocol.rates import SlidingWindow
from onsembl.protocol.stream import GapRejected, OffsetOutOfRange
from onsembl.sql.audit import Actor

logger = logging.getLogger(__name__)

DATABASE_ERRORS = (psycopg.Error, PoolTimeout)
GRACE = (Refresh, Ping, Pong)
"""What may still be said when the access token has ended, for `GRACE_SECONDS`."""
GRACE_SECONDS = 60.0
EXPIRED = "the access token has ended"
KEY_ENDED = "the key of the access token is not good any more"
MESSAGE_WINDOW_SECONDS = 10.0
"""Control messages may come in bursts; their number is an average over this."""


async def agent_socket(websocket: WebSocket) -> None:
    """The ASGI endpoint."""
    services: Services = websocket.app.state.services
    try:
        identity = await authenticate(websocket, services)
    except Problem as problem:
        services.rejections.record("agent socket", problem.detail, client_address(websocket))
        await websocket.send_denial_response(problem.response())
        return
    except DATABASE_ERRORS as error:
        await websocket.send_denial_response(await no_database_answer(websocket, error))
        return
    await websocket.accept(subprotocol=AGENT_SUBPROTOCOL)
    await AgentSession(websocket, services, identity).run()


class AgentSession:
    """One connection of one agent, from its hello to its end."""

    def __init__(self, websocket: WebSocket, services: Services, identity: AgentIdentity) -> None:
        self._websocket = websocket
        self._hub: Hub = services.hub
        self._presence: Presence = services.presence
        self._tokens = services.agent_tokens
        self._rejections = services.rejections
        self._rate_limiter = services.rate_limiter
        self._messages = SlidingWindow(services.settings.limits.messages_per_second, MESSAGE_WINDOW_SECONDS)
        self._settings = services.settings
        self._identity = identity
        self._keys = services.agent_keys
        self._kid = identity.kid
        self.agent_id: AgentId = identity.id
        self.epoch = Epoch(0)
        self.boot: UUID | None = None
        self.offered: tuple[CommandId, float] | None = None
        self._actor = Actor("agent", identity.id, "", client_address(websocket))
        self._closing: tuple[CloseCode, str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._heartbeat = Heartbeat(self._settings.heartbeat, self._settings.heartbeat_timeout, now=time.monotonic())
        self._told: Halt | None = None
        self._expires(identity.expires_at)

    # As the hub sees it (AgentLink)

    async def send(self, message: ServerToAgentMessage) -> None:
        # A peer that is gone ends the session where it is read; its agent will ask again.
        with suppress(WebSocketDisconnect, RuntimeError):
            await send_text(self._websocket, encode(message))

    def close(self, code: CloseCode, reason: str) -> None:
        if self._closing is None and self._task is not None:
            self._closing = (code, reason)
            self._task.cancel()

    # The session

    async def run(self) -> None:
        """Serve the agent until the connection ends; presence is written whatever ends it."""
        self._task = asyncio.current_task()
        assert self._task is not None
        try:
            await self._serve()
        except asyncio.CancelledError:
            if self._closing is None:
                raise
            self._task.uncancel()
        except WebSocketDisconnect:
            return
        except ConnectionRejected as turned:
            self._closing = (turned.code, turned.reason)
        except BadMessage as error:
            self._closing = (CloseCode.BAD_MESSAGE, str(error))
        except (GapRejected, OffsetOutOfRange) as error:
            self._closing = (CloseCode.STREAM_REJECTED, str(error))
        except DATABASE_ERRORS as error:
            logger.warning(
                "The database failed an agent's session: %s",
                error,
                extra={"action": "agent_session_failed", "agent_id": str(self.agent_id)},
            )
            self._closing = (CloseCode.INTERNAL_ERROR, "the database is out of reach; come back")
        await self._say_goodbye()

    async def _say_goodbye(self) -> None:
        if self._closing is None:
            return  # the agent left
        code, reason = self._closing
        if code.is_rejection:
            self._rejections.record("agent socket", reason[:120], self._actor.address, self._actor)
        if self._websocket.application_state is WebSocketState.CONNECTED:
            with suppress(WebSocketDisconnect, RuntimeError):
                await self._websocket.close(code, reason[:120])

    async def _serve(self) -> None:
        try:
            async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
                hello = decode_from_agent(await self._receive_text())
        except TimeoutError as error:
            raise ConnectionRejected(CloseCode.HELLO_TIMEOUT, "no hello within 5 s") from error
        if not isinstance(hello, Hello):
            raise BadMessage("the first message is hello")
        # From here on the agent's presence is ours to write, whatever happens.
        async with self._hub.connecting[self.agent_id]:
            terminal = await self._connect(hello)
        try:
            await self._converse(hello, terminal)
        finally:
            if self._hub.forget(self.agent_id, self):
                terminal.promised = None
            await asyncio.shield(self._disconnect())

    async def _connect(self, hello: Hello) -> Terminal:
        if not self._keys.verifies(self._kid):
            raise ConnectionRejected(CloseCode.TOKEN_EXPIRED, KEY_ENDED)
        self._hub.close(self.agent_id, CloseCode.SUPERSEDED, "the agent has connected again")
        connected = await self._presence.connect(
            self._identity, hello, held(self._hub.terminals.get(self.agent_id)), address=self._actor.address
        )
        self.epoch = connected.epoch
        self._actor = Actor("agent", self.agent_id, connected.name, self._actor.address)
        tail = hello.stream
        terminal = await resume(
            self._hub,
            self.agent_id,
            connected.stream_id,
            connected.resume_offset,
            tail.end if tail is not None and tail.id == connected.stream_id else 0,
            Size(hello.columns, hello.rows),
        )
        await send_text(
            self._websocket,
            encode(
                Welcome(
                    agent_id=self.agent_id,
                    name=connected.name,
                    epoch=self.epoch,
                    stream_id=connected.stream_id,
                    resume_offset=connected.resume_offset,
                    heartbeat_seconds=self._settings.heartbeat,
                    heartbeat_timeout_seconds=self._settings.heartbeat_timeout,
                    halt=connected.halt,
                    cancel_times=self._settings.cancel_times.get(hello.kind),
                )
            ),
        )
        self.boot = hello.boot
        self._hub.links[self.agent_id] = self
        self._told = connected.halt
        for command_id in connected.over:
            await self.send(over(command_id))
        return terminal

    async def _disconnect(self) -> None:
        async with self._hub.connecting[self.agent_id]:
            try:
                await self._presence.disconnect(self.agent_id, self.epoch)
            except DATABASE_ERRORS as error:
                # The sweep of dead instances, or the agent's return, puts it right.
                logger.warning(
                    "Presence could not be written: %s",
                    error,
                    extra={"action": "presence_failed", "agent_id": str(self.agent_id)},
                )

    async def _converse(self, hello: Hello, terminal: Terminal) -> None:
        for ended in hello.ended:
            await self.send(EndRecorded(command_id=ended.command_id))
        await tell(self._hub, self, self._told)
        await self._hub.sync_agent(self.agent_id)
        await self._hub.resend_keys(self.agent_id, hello.boot)
        if terminal.redraw_due:
            terminal.redraw_due = False
            await self.send(Redraw())
        reports = Reports(self.agent_id, self.epoch, self._actor, self._hub, self._presence, self.send, self._refresh)
        side = [
            asyncio.create_task(self._beat(), name=f"heartbeat of {self.agent_id}"),
            asyncio.create_task(self._work_off(reports), name=f"reports of {self.agent_id}"),
            asyncio.create_task(self._watch_expiry(), name=f"expiry of {self.agent_id}"),
            asyncio.create_task(
                acknowledge(terminal, self.send, self.close), name=f"acknowledgements of {self.agent_id}"
            ),
        ]
        ordinary = DirectInput(terminal, MAX_MESSAGE_BYTES, self._heartbeat.received, lambda now: now > self._ends_at)
        try:
            with ordinary.taken_from(self._websocket):
                await self._read(terminal, reports)
        finally:
            for task in side:
                task.cancel()
            await asyncio.gather(*side, return_exceptions=True)

    async def _read(self, terminal: Terminal, reports: Reports) -> None:
        """The loop that terminal bytes go through: nothing in it waits for the database."""
        receive, heartbeat, monotonic = self._websocket.receive, self._heartbeat, time.monotonic
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                return
            now = monotonic()
            heartbeat.received(now)
            frame = event.get("bytes")
            if frame is not None:
                if len(frame) > MAX_MESSAGE_BYTES:
                    raise ConnectionRejected(CloseCode.MESSAGE_TOO_BIG, "a frame holds at most 1 MiB")
                if now > self._ends_at:
                    raise ConnectionRejected(CloseCode.TOKEN_EXPIRED, EXPIRED)
                if terminal.log.backlog.full:
                    await self._hub.archiver.room_for(terminal.log.backlog)
                terminal.ingest(*decode_output(frame))
                continue
            text: str = event["text"]
            if len(text) > MAX_MESSAGE_BYTES:
                raise ConnectionRejected(CloseCode.MESSAGE_TOO_BIG, "a frame holds at most 1 MiB")
            if not self._messages.add(now):
                raise ConnectionRejected(CloseCode.RATE_LIMITED, "too many control messages")
            message = decode_from_agent(text)
            if now > self._ends_at and not isinstance(message, GRACE):
                raise ConnectionRejected(CloseCode.TOKEN_EXPIRED, EXPIRED)
            await self._take(message, terminal, reports)

    async def _receive_text(self) -> str:
        event = await self._websocket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", 1005))
        text = event.get("text")
        if text is None:
            raise BadMessage("the first message is hello, a text frame")
        if len(text) > MAX_MESSAGE_BYTES:
            raise ConnectionRejected(CloseCode.MESSAGE_TOO_BIG, "a frame holds at most 1 MiB")
        return text

    async def _take(self, message: AgentMessage, terminal: Terminal, reports: Reports) -> None:
        match message:
            case Pong():
                pass
            case Ping():
                await self.send(Pong())
            case Hello():
                raise BadMessage("hello is said once")
            case SizeApplied():
                terminal.resize(Size(message.columns, message.rows), message.offset)
                await reports.put(message)
            case KeysTaken():
                self._hub.taken(message)
            case Accepted() | Used() | Ended() | CancelStep() | HaltProgress() | Refresh():
                await reports.put(message)

    async def _work_off(self, reports: Reports) -> None:
        try:
            await reports.work_off()
        except DATABASE_ERRORS as error:
            # Nothing was acknowledged: the agent says it again when it is back.
            logger.warning(
                "An agent's report could not be written: %s",
                error,
                extra={"action": "report_failed", "agent_id": str(self.agent_id)},
            )
            self.close(CloseCode.INTERNAL_ERROR, "the database is out of reach; come back")

    async def _refresh(self, message: Refresh) -> None:
        """The next tokens, over the connection in use; a token that is not good ends it."""
        try:
            self._rate_limiter.count_rotation(self._actor.address)
            issued = await self._tokens.refresh(message.refresh_token, self._actor.address, self.agent_id)
        except RefreshRejected as refused:
            code = CloseCode.TOKEN_REUSED if refused.reused else CloseCode.REFRESH_REJECTED
            self.close(code, refused.detail)
            with suppress(Problem):  # its connection ends as it is
                self._rate_limiter.record_failure(self._actor.address)
            return
        except Problem as problem:
            self.close(CloseCode.RATE_LIMITED, problem.detail)
            return
        self._kid = kid_of(issued.access_token)
        self._expires(time.time() + issued.expires_in)
        await self.send(
            Tokens(
                access_token=issued.access_token,
                expires_in=issued.expires_in,
                refresh_token=issued.refresh_token,
                refresh_expires_in=issued.refresh_expires_in,
            )
        )

    def _expires(self, at: float) -> None:
        """Note when the token ends (Unix time), on the clock that every frame is checked by."""
        self._ends_at = time.monotonic() + at - time.time()

    async def _watch_expiry(self) -> None:
        """A connection that says nothing ends with its token too, once the grace for a refresh is over; any ends at
        once with the key of its token."""
        while self._keys.verifies(self._kid):
            left = self._ends_at + GRACE_SECONDS - time.monotonic()  # each refresh moves it
            if left <= 0:
                self.close(CloseCode.TOKEN_EXPIRED, EXPIRED)
                return
            await self._keys.keys_changed.wait(left)
        self.close(CloseCode.TOKEN_EXPIRED, KEY_ENDED)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._heartbeat.deadline - time.monotonic()))
            match self._heartbeat.poll(time.monotonic()):
                case "ping":
                    await self.send(Ping())
                case "lost":
                    self.close(CloseCode.HEARTBEAT_LOST, "three heartbeats went unanswered")
                    return
                case None:
                    pass
