"""The agents' WebSocket, `/v1/agents/{id}/connection`: an agent authenticates before the upgrade, and then has one
session. A proxy that chooses the instance by the path brings it to its viewers. `/v1/agent` is the same, for agents of
earlier releases.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from uuid import UUID

from starlette.websockets import WebSocket, WebSocketDisconnect

from onsembl.api.auth.agent_keys import AgentIdentity, kid_of
from onsembl.api.auth.agent_tokens import RefreshRejected
from onsembl.api.http.client_address import client_address
from onsembl.api.http.dashboard import version
from onsembl.api.http.problems import Problem, no_database_answer, unauthenticated
from onsembl.api.instances.drain import DRAINING
from onsembl.api.services import Services
from onsembl.api.terminals.agent_presence import LATE_HELLO
from onsembl.api.terminals.agent_reports import Report, cancel_of_ended, unrecorded
from onsembl.api.terminals.direct_input import DirectInput
from onsembl.api.terminals.direct_socket import send_now, send_text
from onsembl.api.terminals.sessions import (
    DATABASE_UNAVAILABLE,
    EXPIRED,
    FAILED,
    FRAME_TOO_BIG,
    HEARTBEAT_LOST,
    KEY_REMOVED,
    MAX_REASON,
    MESSAGE_WINDOW_SECONDS,
    ConnectionRejected,
    close_socket,
)
from onsembl.api.terminals.stream_resumption import held, resume
from onsembl.api.terminals.terminal import Terminal
from onsembl.api.terminals.viewed_terminal import Size
from onsembl.fleet.attention import refusal
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.heartbeat import Heartbeat
from onsembl.protocol.ids import AgentId, CommandId, Epoch
from onsembl.protocol.messages import (
    AGENT_SUBPROTOCOL,
    FIRST_MESSAGE_SECONDS,
    MAX_MESSAGE_BYTES,
    Accepted,
    Acknowledged,
    AgentMessage,
    AgentProblem,
    AnswerTaken,
    Asked,
    BadMessage,
    CancelStep,
    Ended,
    EndRecorded,
    Halt,
    HaltProgress,
    Hello,
    KeysTaken,
    LastLine,
    LookPart,
    OpenRequests,
    Ping,
    Pong,
    Redraw,
    Refresh,
    Resend,
    ServerToAgentMessage,
    SizeApplied,
    Steered,
    Steps,
    Tokens,
    Used,
    Welcome,
    Withdrawn,
    WorkClockState,
    decode_from_agent,
    decode_output,
    encode,
    too_big,
)
from onsembl.protocol.rates import SlidingWindow
from onsembl.protocol.stream import GapRejected, OffsetOutOfRange
from onsembl.sql.audit import Actor
from onsembl.sql.database import DATABASE_ERRORS, LASTING_ERRORS

logger = logging.getLogger(__name__)

GRACE = (Refresh, Ping, Pong)
"""The messages that are still accepted after the access token has expired, for `GRACE_SECONDS`."""
GRACE_SECONDS = 60.0
MAX_REPORTS = 64
"""Reports of one agent that may wait for the database. Beyond that, the session reads no more frames."""


async def agent_socket(websocket: WebSocket) -> None:
    """The ASGI endpoint."""
    services: Services = websocket.app.state.services
    if services.drain.begun:
        await websocket.send_denial_response(services.drain.refusal(websocket.headers))
        return
    try:
        identity = await _authenticate(websocket, services)
    except Problem as problem:
        services.rejections.record("agent socket", problem.detail, client_address(websocket))
        await websocket.send_denial_response(problem.response())
        return
    except DATABASE_ERRORS as error:
        await websocket.send_denial_response(await no_database_answer(websocket, error))
        return
    await websocket.accept(subprotocol=AGENT_SUBPROTOCOL)
    await AgentSession(websocket, services, identity).run()


async def _authenticate(websocket: WebSocket, services: Services) -> AgentIdentity:
    """The agent that the access token names. Raises Problem, psycopg.Error or PoolTimeout."""
    if "origin" in websocket.headers:
        raise Problem(403, "This WebSocket is for agents, not for browsers.")
    if AGENT_SUBPROTOCOL not in websocket.scope["subprotocols"]:
        raise Problem(400, f"This WebSocket requires the subprotocol {AGENT_SUBPROTOCOL}.")
    scheme, _, token = websocket.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated("An agent presents its access token in the Authorization header.")
    address = client_address(websocket)
    try:
        identity = await services.agent_keys.recognise(token)
    except Problem:
        services.rate_limiter.record_invalid_token(address)
        raise
    if websocket.path_params.get("agent_id", identity.id) != identity.id:
        raise Problem(403, "The access token is another agent's.")
    services.rate_limiter.count_connection(address, identity.id)
    return identity


class AgentSession:
    """One connection of one agent, from its hello until it is closed. It is the hub's AgentLink of this agent.

    One loop reads frames. Terminal bytes go straight to the terminal, and nothing in that loop waits for the database:
    reports are written, and tokens are refreshed, in tasks beside it.
    """

    def __init__(self, websocket: WebSocket, services: Services, identity: AgentIdentity) -> None:
        self._websocket = websocket
        self._services = services
        self._settings = services.settings
        self._hub = services.hub
        self._keys = services.agent_keys
        self._identity = identity
        self.agent_id: AgentId = identity.id
        self.epoch = Epoch(0)
        self.boot: UUID | None = None
        self.attempt: int | None = None
        self.actor = Actor("agent", identity.id, "", client_address(websocket))
        self.takes_steers = False
        self.takes_answers = False
        self.tells_work_clock = False
        self.takes_rules = False
        self.takes_attachments = False
        self.branch: str | None = None
        self.offered: tuple[CommandId, float] | None = None
        self.problems = 0
        self._kid = identity.kid
        self._set_expiry(identity.expires_at)
        self._known_halt: Halt | None = None
        """The halt that the agent was told of in its welcome."""
        self._messages = SlidingWindow(self._settings.limits.messages_per_second, MESSAGE_WINDOW_SECONDS)
        self._heartbeat = Heartbeat(self._settings.heartbeat, self._settings.heartbeat_timeout, now=time.monotonic())
        self._reports: asyncio.Queue[Report] = asyncio.Queue(MAX_REPORTS)
        self._refreshing: asyncio.Task[None] | None = None
        self._closing: tuple[CloseCode, str] | None = None
        self._task: asyncio.Task[None] | None = None

    # As the hub sees it (AgentLink)

    async def send(self, message: ServerToAgentMessage) -> None:
        # A closed connection ends the session where it is read; the agent is synchronized when it reconnects.
        with suppress(WebSocketDisconnect, RuntimeError):
            await send_text(self._websocket, encode(message))

    def close(self, code: CloseCode, reason: str) -> None:
        if self._closing is None and self._task is not None:
            self._closing = (code, reason)
            self._task.cancel()

    # From the hello to the close

    async def run(self) -> None:
        """Serve the agent until the connection is closed. The agent is then marked offline, whatever the cause."""
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
        except ConnectionRejected as rejected:
            self._closing = (rejected.code, rejected.reason)
        except BadMessage as error:
            self._closing = (CloseCode.BAD_MESSAGE, str(error))
        except (GapRejected, OffsetOutOfRange) as error:
            self._closing = (CloseCode.STREAM_REJECTED, str(error))
        except DATABASE_ERRORS as error:
            logger.warning(
                "An agent's session was closed by a database error: %s",
                error,
                extra={"action": "agent_session_failed", "agent_id": str(self.agent_id)},
            )
            self._closing = (CloseCode.INTERNAL_ERROR, DATABASE_UNAVAILABLE)
        except Exception:
            logger.exception(
                "An agent's session failed by an internal error",
                extra={"action": "agent_session_failed", "agent_id": str(self.agent_id)},
            )
            self._closing = (CloseCode.INTERNAL_ERROR, FAILED)
        if self._closing is not None:  # else the agent has closed the connection
            code, reason = self._closing
            if code.is_rejection:
                self._services.rejections.record("agent socket", reason[:MAX_REASON], self.actor.address, self.actor)
            await close_socket(self._websocket, code, reason)

    async def _serve(self) -> None:
        hello = await self._receive_hello()
        terminal: Terminal | None = None
        try:
            async with self._hub.connecting[self.agent_id]:
                terminal = await self._connect(hello)
            await self._synchronize(hello, terminal)
            if self._closing is not None:  # psycopg may lose a cancellation: see `cancel_until_done`
                raise ConnectionRejected(*self._closing)
            await self._converse(terminal)
        finally:
            if self._hub.remove_agent(self) and terminal is not None:
                terminal.promised = None
            if self.epoch and not self._services.drain.is_moving(self.agent_id):  # the agent was marked online
                await asyncio.shield(self._disconnect())

    async def _receive_hello(self) -> Hello:
        try:
            async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
                event = await self._websocket.receive()
        except TimeoutError as error:
            raise ConnectionRejected(CloseCode.HELLO_TIMEOUT, "No hello message within 5 seconds.") from error
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", 1005))
        text = event.get("text")
        if text is None:
            raise BadMessage("The first message must be hello, in a text frame.")
        if too_big(text):
            raise ConnectionRejected(CloseCode.MESSAGE_TOO_BIG, FRAME_TOO_BIG)
        hello = decode_from_agent(text)
        if not isinstance(hello, Hello):
            raise BadMessage("The first message must be hello.")
        return hello

    async def _connect(self, hello: Hello) -> Terminal:
        """Mark the agent online, resume its terminal, and welcome it. A connection that it has here is closed."""
        if not self._keys.verifies(self._kid):
            raise ConnectionRejected(CloseCode.TOKEN_EXPIRED, KEY_REMOVED)
        if self._services.drain.begun:
            raise ConnectionRejected(CloseCode.DRAINING, DRAINING)
        link = self._hub.links.get(self.agent_id)
        if link is not None and hello.is_late(link.boot, link.attempt):
            raise ConnectionRejected(CloseCode.GOING_AWAY, LATE_HELLO)
        self._hub.disconnect(self.agent_id, CloseCode.SUPERSEDED, "The agent has connected again.")
        connected = await self._services.presence.connect(
            self._identity, hello, held(self._hub.terminals.get(self.agent_id)), address=self.actor.address
        )
        self.epoch = connected.epoch
        self.actor = Actor("agent", self.agent_id, connected.name, self.actor.address)
        tail = hello.stream
        terminal = await resume(
            self._hub,
            self.agent_id,
            connected.epoch,
            connected.stream_id,
            connected.resume_offset,
            connected.archived,
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
                    begins_at=connected.begins_at,
                    heartbeat_seconds=self._settings.heartbeat,
                    heartbeat_timeout_seconds=self._settings.heartbeat_timeout,
                    halt=connected.halt,
                    cancel_times=self._settings.cancel_times.get(hello.kind),
                    recall=list(connected.hello.recalled),
                    takes_steps=True,
                    takes_requests=True,
                    takes_problems=True,
                    takes_last_lines=True,
                    takes_work_clock=True,
                    version=version(),
                )
            ),
        )
        self.boot, self.attempt = hello.boot, hello.attempt
        self.takes_steers, self.takes_rules = hello.takes_steers, hello.takes_rules
        self.takes_attachments, self.takes_answers = hello.takes_attachments, hello.takes_answers
        self.tells_work_clock, self.branch = hello.tells_work_clock, hello.branch
        self._hub.links[self.agent_id] = self
        self._known_halt = connected.halt
        for command_id in connected.hello.ended_before:
            await self.send(cancel_of_ended(command_id))
        return terminal

    async def _synchronize(self, hello: Hello, terminal: Terminal) -> None:
        """Send the agent everything that it may have missed while it was offline."""
        for ended in hello.ended:
            await self.send(EndRecorded(command_id=ended.command_id))
        await self._hub.sync_halt(self, self._known_halt)
        await self._hub.sync_agent(self.agent_id)
        await self._hub.resend_keys(self.agent_id, hello.boot)
        if terminal.redraw_due:
            terminal.redraw_due = False
            await self.send(Redraw())

    async def _disconnect(self) -> None:
        """Mark the agent offline."""
        async with self._hub.connecting[self.agent_id]:
            try:
                await self._services.presence.disconnect(self.agent_id, self.epoch)
            except DATABASE_ERRORS as error:
                # The sweep of dead instances, or the agent's return, corrects its presence.
                logger.warning(
                    "An agent could not be marked offline: %s",
                    error,
                    extra={"action": "presence_failed", "agent_id": str(self.agent_id)},
                )

    # Frames from the agent

    async def _converse(self, terminal: Terminal) -> None:
        """Read frames until the agent closes the connection, with the session's other tasks beside."""
        tasks = [
            asyncio.create_task(self._send_heartbeats(), name=f"heartbeat of {self.agent_id}"),
            asyncio.create_task(self._write_reports(), name=f"reports of {self.agent_id}"),
            asyncio.create_task(self._watch_expiry(), name=f"expiry of {self.agent_id}"),
            asyncio.create_task(self._acknowledge(terminal), name=f"acknowledgements of {self.agent_id}"),
        ]
        for task in tasks:
            task.add_done_callback(self._side_task_ended)
        direct_input = DirectInput(terminal, MAX_MESSAGE_BYTES, self._heartbeat.received, self._is_stopped)
        try:
            with direct_input.reading_from(self._websocket):
                await self._read(terminal)
        finally:
            if self._refreshing is not None:
                tasks.append(self._refreshing)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, terminal: Terminal) -> None:
        """Read frames until the agent closes the connection. Terminal bytes that come here did not take the short way
        of `DirectInput`."""
        receive, heartbeat, monotonic = self._websocket.receive, self._heartbeat, time.monotonic
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                if reason := event.get("reason"):
                    logger.warning(
                        "An agent leaves: %s",
                        reason,
                        extra={"action": "agent_leaves", "agent_id": str(self.agent_id)},
                    )
                return
            now = monotonic()
            heartbeat.received(now)
            frame = event.get("bytes")
            if frame is not None:
                if len(frame) > MAX_MESSAGE_BYTES:
                    raise ConnectionRejected(CloseCode.MESSAGE_TOO_BIG, FRAME_TOO_BIG)
                if self._is_expired(now):
                    raise ConnectionRejected(CloseCode.TOKEN_EXPIRED, EXPIRED)
                if terminal.log.backlog.full:
                    await self._hub.archiver.wait_for_room(terminal.log.backlog)
                terminal.ingest(*decode_output(frame))
            else:
                await self._receive(event["text"], now, terminal)

    async def _receive(self, text: str, now: float, terminal: Terminal) -> None:
        """Check a control message, and act on it."""
        if too_big(text):
            raise ConnectionRejected(CloseCode.MESSAGE_TOO_BIG, FRAME_TOO_BIG)
        if not self._messages.add(now):
            raise ConnectionRejected(CloseCode.RATE_LIMITED, "Too many control messages.")
        message = decode_from_agent(text)
        if self._is_expired(now) and not isinstance(message, GRACE):
            raise ConnectionRejected(CloseCode.TOKEN_EXPIRED, EXPIRED)
        try:
            await self._apply(message, terminal)
        except (ConnectionRejected, BadMessage):
            raise
        except Exception:
            logger.exception(
                "An agent's message could not be applied",
                extra={"action": "agent_message_failed", "agent_id": str(self.agent_id)},
            )

    async def _apply(self, message: AgentMessage, terminal: Terminal) -> None:
        match message:
            case Accepted() | Used() | Ended() | Steps() | Steered() | CancelStep() | HaltProgress() | AgentProblem():
                await self._reports.put(message)
            case OpenRequests() | Asked() | Withdrawn() | AnswerTaken() | WorkClockState() | LastLine():
                await self._reports.put(message)
            case SizeApplied():
                terminal.resize(Size(message.columns, message.rows), message.offset)
                await self._reports.put(message)
            case KeysTaken():
                self._hub.keys_answered(message)
            case LookPart():
                self._hub.looks.receive(self, message)
            case Refresh():
                if self._refreshing is not None:
                    await self._refreshing  # one refresh at a time
                self._refreshing = asyncio.create_task(self._refresh(message), name=f"refresh of {self.agent_id}")
            case Ping():
                await self.send(Pong())
            case Pong():
                pass
            case Hello():
                raise BadMessage("The hello message may be sent once only.")

    # Beside the loop that reads frames

    async def _write_reports(self) -> None:
        """Write the agent's reports, one after another."""
        try:
            while True:
                await self._write_report(await self._reports.get())
        except DATABASE_ERRORS as error:
            # The report was not acknowledged: the agent repeats it when it reconnects.
            logger.warning(
                "An agent's report could not be written: %s",
                error,
                extra={"action": "report_failed", "agent_id": str(self.agent_id)},
            )
            self.close(CloseCode.INTERNAL_ERROR, DATABASE_UNAVAILABLE)

    async def _write_report(self, report: Report) -> None:
        """Write one report. A report that can never be written is logged; a command that it ends has then failed, and
        a request is denied.

        Raises psycopg.Error or PoolTimeout when the agent should repeat the report.
        """
        try:
            await self._services.reports.write(self, report)
        except Exception as error:
            if isinstance(error, DATABASE_ERRORS) and not isinstance(error, LASTING_ERRORS):
                raise
            logger.exception(
                "An agent's report cannot be written",
                extra={"action": "report_failed", "agent_id": str(self.agent_id)},
            )
            if isinstance(report, Ended):
                await self._services.reports.write(self, unrecorded(report, error))
            elif isinstance(report, Asked):
                await self.send(refusal(report))
            elif isinstance(report, AgentProblem):
                # The agent takes no offer that was made before its problem was applied. Its next hello has the problem.
                self.close(CloseCode.INTERNAL_ERROR, FAILED)

    def _side_task_ended(self, task: asyncio.Task[None]) -> None:
        """A session without one of its tasks would hold its agent: the agent connects again."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error(
                "An agent's session failed by an internal error",
                exc_info=error,
                extra={"action": "agent_session_failed", "agent_id": str(self.agent_id)},
            )
            self.close(CloseCode.INTERNAL_ERROR, FAILED)

    async def _acknowledge(self, terminal: Terminal) -> None:
        """Acknowledge bytes as the archive has them, and ask for bytes that the archive has missed."""
        log, archived, acknowledged = terminal.log, asyncio.Event(), 0
        log.on_archived = archived.set
        archived.set()
        try:
            while True:
                await archived.wait()
                archived.clear()
                if log.rejected:
                    self.close(CloseCode.STREAM_REJECTED, "The archive accepts no more bytes of this stream.")
                    return
                # Another instance may have archived bytes that have not come here. They are acknowledged when they do.
                upto = min(log.backlog.start, terminal.inbox.end)
                if upto > acknowledged:
                    acknowledged = upto
                    await self.send(Acknowledged(offset=acknowledged))
                if (again := log.backlog.resend_offset()) is not None:
                    await self.send(Resend(offset=again))
        finally:
            if log.on_archived == archived.set:
                log.on_archived = None

    async def _send_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._heartbeat.deadline - time.monotonic()))
            match self._heartbeat.poll(time.monotonic()):
                case "ping":
                    if not send_now(self._websocket, encode(Ping())):
                        self._heartbeat.postpone(time.monotonic())
                case "lost":
                    self.close(CloseCode.HEARTBEAT_LOST, HEARTBEAT_LOST)
                    return
                case None:
                    pass

    # The access token

    async def _refresh(self, message: Refresh) -> None:
        """Exchange the agent's refresh token over this connection. A token that is rejected closes the connection."""
        limiter, address = self._services.rate_limiter, self.actor.address
        try:
            limiter.count_rotation(address)
            issued = await self._services.agent_tokens.refresh(
                message.refresh_token, address, self.agent_id, message.recovery_hash
            )
        except RefreshRejected as rejected:
            code = CloseCode.TOKEN_REUSED if rejected.reused else CloseCode.REFRESH_REJECTED
            self.close(code, rejected.detail)
            with suppress(Problem):  # the connection closes anyway
                limiter.record_failure(address)
            return
        except Problem as problem:
            self.close(CloseCode.RATE_LIMITED, problem.detail)
            return
        except DATABASE_ERRORS as error:
            # The agent repeats the refresh when it reconnects.
            logger.warning(
                "An agent's tokens could not be refreshed: %s",
                error,
                extra={"action": "refresh_failed", "agent_id": str(self.agent_id)},
            )
            self.close(CloseCode.INTERNAL_ERROR, DATABASE_UNAVAILABLE)
            return
        self._kid = kid_of(issued.access_token)
        self._set_expiry(time.time() + issued.expires_in)
        await self.send(
            Tokens(
                access_token=issued.access_token,
                expires_in=issued.expires_in,
                refresh_token=issued.refresh_token,
                refresh_expires_in=issued.refresh_expires_in,
                recovery_secret=issued.recovery_secret,
            )
        )

    def _set_expiry(self, at: float) -> None:
        """Set when the access token expires (Unix time); it is kept by the monotonic clock, as frames are checked."""
        self._expires_at = time.monotonic() + at - time.time()

    def _is_expired(self, now: float) -> bool:
        """Whether the access token has expired at `now`, by the monotonic clock."""
        return now > self._expires_at

    def _is_stopped(self, now: float) -> bool:
        """Whether no more bytes are taken at `now`. A connection that is being closed takes none: the next one decides
        by what has come where the stream goes on."""
        return self._closing is not None or self._is_expired(now)

    async def _watch_expiry(self) -> None:
        """Close the connection when the grace after the token's expiry is over, also if the agent sends nothing; and at
        once when the key of the token is removed."""
        while self._keys.verifies(self._kid):
            left = self._expires_at + GRACE_SECONDS - time.monotonic()  # each refresh extends it
            if left <= 0:
                self.close(CloseCode.TOKEN_EXPIRED, EXPIRED)
                return
            await self._keys.keys_changed.wait(left)
        self.close(CloseCode.TOKEN_EXPIRED, KEY_REMOVED)
