"""The agent's connection to its server: made again whenever it breaks, without losing anything."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from contextlib import suppress
from pathlib import Path
from socket import SO_SNDBUF, SOL_SOCKET

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from onsembl.agent.drivers.attached_files import AttachmentError
from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.credentials import Credentials
from onsembl.agent.enrolment.enrol import (
    RecoveryClosed,
    ServerUnreachable,
    TokenUnknown,
    recover,
    refresh,
    retry_after_of,
)
from onsembl.agent.enrolment.refusals import is_draining, refusal
from onsembl.agent.errors import AgentError, CannotWrite
from onsembl.agent.link.attachments import fetch_attachment
from onsembl.agent.link.problem import ROOM_SECONDS
from onsembl.agent.link.session import ProtocolFault, ServerSession
from onsembl.protocol.attachments import Attachment
from onsembl.protocol.backoff import Backoff
from onsembl.protocol.close_codes import CloseCode, is_permanent
from onsembl.protocol.heartbeat import Heartbeat
from onsembl.protocol.messages import (
    AGENT_SUBPROTOCOL,
    FIRST_MESSAGE_SECONDS,
    MAX_MESSAGE_BYTES,
    Ping,
    Refresh,
    Tokens,
)

logger = logging.getLogger(__name__)

SEND_BUFFER_BYTES = 128 * 1024
"""Size of the socket's send buffer; a program's answer to a key waits behind it. Linux doubles it."""
MIN_TOKEN_SECONDS = 30.0
"""An access token that expires sooner is refreshed before connecting."""
REFRESH_ANSWER_SECONDS = 20.0
"""How long the server may take to answer a refresh before it is asked again."""
MAX_REASON = 60
"""A close reason holds 123 bytes."""
MOVES_AT_ONCE = 3
"""An agent that is sent away by instances that are about to stop tries so often without a delay: a proxy may bring it
to the same instance again."""
STABLE_SECONDS = 30.0
"""After a connection that held this long, the delays before reconnecting begin small again."""

FETCH_SECONDS = 15 * 60.0
"""How long the server may take to give a file of a prompt, outages included, before the command fails."""


class AgentConnection:
    """Keeps the agent connected until it is cancelled or only a person can help."""

    def __init__(self, folder: Path, credentials: Credentials, session: ServerSession) -> None:
        self._folder = folder
        self._credentials = credentials
        self._session = session
        self._frame_ready = asyncio.Event()
        self._backoff = Backoff(cap=5.0)
        self._presented_token: str | None = None
        self._rejected_token: str | None = None
        """The access token that the server rejected or declared expired."""
        self._unknown_token: str | None = None
        """A refresh token that the server does not know: only the recovery secret gets new tokens."""
        self._told_version: str | None = None
        """The server's release that was logged as another one."""
        self._retry_after = 0.0
        """How many seconds the server asked the agent to wait, at the last rejection."""
        self._rejections = 0
        """How often the server has rejected the token since the last welcome."""
        self._moves = 0
        """How often an instance that is about to stop has sent the agent away since the last welcome."""
        # The path with the id brings the agent to its viewers behind a proxy that chooses the instance by the path.
        # A server of an earlier release has the other one only.
        self._paths = itertools.cycle((f"/v1/agents/{credentials.agent_id}/connection", "/v1/agent"))
        self._path = next(self._paths)
        self._refreshing: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        """Tries to write the credentials that a full disk did not take."""
        self._refreshed = asyncio.Event()
        session.on_frame = self._frame_ready.set
        session.on_tokens = self._tokens_received

    async def fetch(self, attachment: Attachment) -> bytes:
        """The content of a file of the running command. Raises AttachmentError when the server refuses it, or gives no
        final answer for `FETCH_SECONDS`."""
        backoff = Backoff()
        problem = "the server has not sent all of it"
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                while True:
                    try:
                        return await fetch_attachment(
                            self._credentials.server, self._credentials.access_token, attachment
                        )
                    except ServerUnreachable as error:  # or the access token has expired: the connection gets the next
                        problem = str(error)
                        logger.warning("%s", error, extra={"action": "server_unreachable"})
                    await asyncio.sleep(backoff.next_delay())
        except TimeoutError as error:
            raise AttachmentError(
                f"The file {attachment.name} could not be fetched for {FETCH_SECONDS / 60:g} min: {problem}"
            ) from error

    async def run(self) -> None:
        """Stay connected until cancelled. Raises AgentError when only a person can help."""
        while True:
            began, acknowledgements = time.monotonic(), self._session.acknowledgements
            at_once = False
            self._retry_after = 0.0
            try:
                await self._connect_once()
            except RecoveryClosed as error:
                logger.warning("%s", error, extra={"action": "recovery_awaited"})
                self._retry_after = error.retry_after * random.uniform(0.5, 1.5)  # noqa: S311 — no secret
            except ServerUnreachable as error:
                logger.warning("%s", error, extra={"action": "server_unreachable"})
            except (OSError, TimeoutError, WebSocketException, ProtocolFault) as error:
                at_once = self._reconnect_at_once(error)
                level = logging.INFO if at_once else logging.WARNING
                logger.log(level, "Not connected: %s", error or type(error).__name__, extra={"action": "disconnected"})
            except CannotWrite as error:
                # This server's release takes no `problem`. Offline, the agent's queue waits.
                logger.warning("Not connected: %s", error, extra={"action": "disconnected"})
                while self._session.problem is not None:  # noqa: ASYNC110 — it ends by polling
                    await asyncio.sleep(ROOM_SECONDS)
            except AgentError:
                raise
            except Exception:
                logger.exception("The connection failed by an internal error", extra={"action": "disconnected"})
            if at_once:
                continue
            if time.monotonic() - began > STABLE_SECONDS or self._session.acknowledgements != acknowledgements:
                self._backoff.reset()
            await asyncio.sleep(max(self._backoff.next_delay(), self._retry_after))

    def _reconnect_at_once(self, error: Exception) -> bool:
        """Whether to reconnect without delay: with a new token, or at another instance. Raises AgentError when
        reconnecting is pointless."""
        rejected = moves = False
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            self._retry_after = retry_after_of(error.response.headers)
            told = refusal(status, error.response.headers, error.response.body or b"")
            moves = is_draining(status, error.response.headers, error.response.body or b"")
            rejected = status == 401 and told is not None
            if status in (400, 403, 404) and told is not None:
                raise AgentError(f"The server rejects the connection ({status}): {told}") from error
            if status in (403, 404):
                self._path = next(self._paths)
        if isinstance(error, ConnectionClosed) and error.rcvd is not None:
            code, reason = error.rcvd.code, error.rcvd.reason
            moves = code == CloseCode.DRAINING
            rejected = code in (CloseCode.TOKEN_EXPIRED, CloseCode.UNAUTHENTICATED)
            if code == CloseCode.REFRESH_REJECTED and self._credentials.recovery_secret:
                rejected = True  # the token is presented once more by REST, which tells whether it is only unknown
            elif is_permanent(code):
                raise AgentError(f"The server ended the connection for good ({code}): {reason}") from error
        if moves:
            self._moves += 1
            return self._moves <= MOVES_AT_ONCE
        if not rejected:
            return False
        self._rejected_token = self._presented_token
        self._rejections += 1
        # A server may reject the new token too, for example if its clock is wrong: then wait.
        return self._rejections == 1

    async def _connect_once(self) -> None:
        if self._credentials.access_token == self._rejected_token or not self._credentials.valid_for(MIN_TOKEN_SECONDS):
            await self._refresh()
        self._presented_token = self._credentials.access_token
        url = self._credentials.server.replace("http", "ws", 1) + self._path
        async with connect(
            url,
            additional_headers={"Authorization": f"Bearer {self._presented_token}"},
            subprotocols=[AGENT_SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            ping_interval=None,
            open_timeout=15,
            close_timeout=5,
            user_agent_header=None,
        ) as websocket:
            websocket.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES)
            try:
                await self._communicate(websocket)
            except CannotWrite as error:
                await websocket.close(CloseCode.NORMAL, str(error)[:MAX_REASON])
                raise
            finally:
                self._session.disconnected()

    async def _communicate(self, websocket: ClientConnection) -> None:
        await websocket.send(self._session.connect())
        async with asyncio.timeout(FIRST_MESSAGE_SECONDS * 2):
            welcome = self._session.receive_welcome(await websocket.recv())
        self._rejections = self._moves = 0
        fields = {"action": "connected", "epoch": welcome.epoch}
        logger.info("Connected to %s as %s", self._credentials.server, welcome.name, extra=fields)
        self._compare_versions(welcome.version)
        heartbeat = Heartbeat(welcome.heartbeat_seconds, welcome.heartbeat_timeout_seconds, now=time.monotonic())
        tasks = [
            asyncio.create_task(self._read(websocket, heartbeat), name="agent's reader"),
            asyncio.create_task(self._write(websocket), name="agent's writer"),
            asyncio.create_task(self._beat(websocket, heartbeat), name="agent's heartbeat"),
            asyncio.create_task(self._refresh_ahead(), name="agent's token"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()  # raises the error of the task that failed first
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _compare_versions(self, server: str | None) -> None:
        """Log, once for each release of the server, that this agent has another."""
        if server not in (None, self._session.version, self._told_version):
            self._told_version = server
            logger.warning(
                "The server has the release %s, this agent %s. Update it with: onsembl agent update --name %s",
                server,
                self._session.version,
                self._credentials.name,
                extra={"action": "other_release", "server_version": server, "version": self._session.version},
            )

    async def _read(self, websocket: ClientConnection, heartbeat: Heartbeat) -> None:
        while True:
            frame = await websocket.recv()
            heartbeat.received(time.monotonic())
            self._session.receive(frame)

    async def _write(self, websocket: ClientConnection) -> None:
        while True:
            self._frame_ready.clear()
            while (frame := self._session.next_frame()) is not None:
                try:
                    await websocket.send(frame)
                except AttributeError as error:
                    if not websocket.transport.is_closing():
                        raise
                    # websockets ends a broken connection by aborting its transport. In CPython 3.11 that fails when the
                    # transport has closed itself just after its last byte, because it has no loop any more.
                    raise ConnectionResetError("the connection is gone") from error
            await self._frame_ready.wait()

    async def _beat(self, websocket: ClientConnection, heartbeat: Heartbeat) -> None:
        while True:
            await asyncio.sleep(max(0.0, heartbeat.deadline - time.monotonic()))
            match heartbeat.poll(time.monotonic()):
                case "ping":
                    self._session.send(Ping())
                case "lost":
                    websocket.transport.abort()
                    raise TimeoutError("the server does not answer")
                case None:
                    pass

    async def _refresh_ahead(self) -> None:
        """Request the next tokens over this connection when about two thirds of the access token's lifetime are over.

        The time is jittered, so that agents that were started together do not refresh together.
        """
        while True:
            held = self._credentials
            due = held.access_expires_at - held.access_lifetime * random.uniform(0.25, 0.4)  # noqa: S311 — no secret
            await asyncio.sleep(max(0.0, due - time.time()))
            self._refreshed.clear()
            self._session.send(Refresh(refresh_token=held.refresh_token, recovery_hash=held.recovery_hash))
            with suppress(TimeoutError):  # then ask again: the server answers a repeated refresh once more
                async with asyncio.timeout(REFRESH_ANSWER_SECONDS):
                    await self._refreshed.wait()

    def _tokens_received(self, tokens: Tokens) -> None:
        self._store(
            self._credentials.renewed(
                tokens.access_token, tokens.expires_in, tokens.refresh_token, tokens.recovery_secret
            ),
            exchanged=self._credentials.refresh_token,
        )
        self._refreshed.set()

    async def finish_refresh(self, seconds: float) -> None:
        """Wait for a refresh that has begun, for at most `seconds`: its answer has the only valid tokens."""
        if self._refreshing is not None:
            await asyncio.wait({self._refreshing}, timeout=seconds)
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)
            with suppress(OSError):
                store.save(self._folder, self._credentials)

    async def _refresh(self) -> None:
        """Exchange the refresh token for the next pair of tokens. Raises AgentError.

        Cancelling the caller does not cancel the exchange, for a refresh token that is used twice revokes the agent.
        """
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._exchange(), name="exchange of tokens")
        refreshing = self._refreshing
        try:
            await asyncio.shield(refreshing)
        finally:
            if refreshing.done() and self._refreshing is refreshing:
                self._refreshing = None

    async def _exchange(self) -> None:
        held = self._credentials
        if held.refresh_token != self._unknown_token:
            try:
                self._store(await refresh(held), exchanged=held.refresh_token)
            except TokenUnknown:
                if not held.recovery_secret:
                    raise
                self._unknown_token = held.refresh_token
            else:
                return
        self._store(await recover(held))

    def _store(self, credentials: Credentials, *, exchanged: str | None = None) -> None:
        """Write the credentials to disk, and use them. They were got for the refresh token `exchanged`.

        A refresh token that is not on disk is not presented: after a kill, the agent would have only one of which the
        server knows a used successor. Meanwhile the exchanged one is good again.
        """
        self._credentials = credentials
        try:
            store.save(self._folder, credentials)
        except OSError:
            logger.exception("The credentials cannot be written", extra={"action": "credentials_not_kept"})
            if exchanged is not None:
                self._credentials = msgspec.structs.replace(credentials, refresh_token=exchanged)
            if self._saving is None:
                self._saving = asyncio.create_task(self._save_when_there_is_room(), name="agent's credentials")

    async def _save_when_there_is_room(self) -> None:
        while True:
            await asyncio.sleep(ROOM_SECONDS)
            with suppress(OSError):
                store.save(self._folder, self._credentials)
                break
        self._saving = None
        logger.warning("The credentials are written", extra={"action": "room_again"})
