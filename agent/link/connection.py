"""The agent's connection: made again whenever it breaks, with nothing lost between."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import suppress
from pathlib import Path
from socket import SO_SNDBUF, SOL_SOCKET

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.credentials import Credentials
from onsembl.agent.enrolment.enrol import ServerUnreachable, refresh
from onsembl.agent.errors import AgentError
from onsembl.agent.link.dialogue import Conversation
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
"""What the system may hold of what was sent; an answer to a key is behind it. Linux doubles it."""
FRESH_SECONDS = 30.0
"""An access token that ends sooner is not worth connecting with."""
ANSWER_SECONDS = 20.0
"""How long the server may take to answer before it is asked again."""
LONGEST_WAIT_SECONDS = 120.0
"""No server makes an agent wait longer for its next try."""
STABLE_SECONDS = 30.0
"""A connection that held this long was a good one: the next failure waits briefly again."""


class AgentConnection:
    """Keeps the agent connected until it is told to stop or a person has to act."""

    def __init__(self, folder: Path, credentials: Credentials, conversation: Conversation) -> None:
        self._folder = folder
        self._credentials = credentials
        self._conversation = conversation
        self._something = asyncio.Event()
        self._backoff = Backoff(cap=5.0)
        self._presented: str | None = None
        self._refused: str | None = None
        """The access token that the server refused, or whose time it called up."""
        self._asked_to_wait = 0.0
        """What the server asked for, in seconds, when it last refused."""
        self._refusals = 0
        """How many in a row, with no welcome between."""
        self._renewing: asyncio.Task[None] | None = None
        self._renewed = asyncio.Event()
        conversation.on_frame = self._something.set
        conversation.on_tokens = self._take

    async def run(self) -> None:
        """Stay connected until cancelled. Raises AgentError when only a person can help."""
        while True:
            began, taken = time.monotonic(), self._conversation.taken
            at_once = False
            try:
                await self._connect_once()
            except ServerUnreachable as error:
                logger.warning("%s", error, extra={"action": "server_unreachable"})
            except (OSError, TimeoutError, WebSocketException) as error:
                at_once = self._obey(error)
                level = logging.INFO if at_once else logging.WARNING
                logger.log(level, "Not connected: %s", error or type(error).__name__, extra={"action": "disconnected"})
            if at_once:
                continue
            if time.monotonic() - began > STABLE_SECONDS or self._conversation.taken != taken:
                self._backoff.reset()
            await asyncio.sleep(max(self._backoff.next_delay(), self._asked_to_wait))

    def _obey(self, error: Exception) -> bool:
        """Whether to come back at once, with a new token. Raises AgentError when coming back is pointless."""
        refused = False
        self._asked_to_wait = 0.0
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            self._asked_to_wait = _retry_after(error)
            refused = status == 401
            if status in (400, 403, 404):
                raise AgentError(f"The server refuses the connection ({status}): {_text(error)}") from error
        if isinstance(error, ConnectionClosed) and error.rcvd is not None:
            code, reason = error.rcvd.code, error.rcvd.reason
            refused = code in (CloseCode.TOKEN_EXPIRED, CloseCode.UNAUTHENTICATED)
            if is_permanent(code):
                raise AgentError(f"The server ended the connection for good ({code}): {reason}") from error
        if not refused:
            return False
        self._refused = self._presented
        self._refusals += 1
        # A new token that is refused too, say by a server whose clock is wrong, does not get better by hurrying.
        return self._refusals == 1

    async def _connect_once(self) -> None:
        if self._credentials.access_token == self._refused or not self._credentials.valid_for(FRESH_SECONDS):
            await self._renew()
        self._presented = self._credentials.access_token
        url = self._credentials.server.replace("http", "ws", 1) + "/v1/agent"
        async with connect(
            url,
            additional_headers={"Authorization": f"Bearer {self._presented}"},
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
                await self._converse(websocket)
            finally:
                self._conversation.end()

    async def _converse(self, websocket: ClientConnection) -> None:
        await websocket.send(self._conversation.begin())
        async with asyncio.timeout(FIRST_MESSAGE_SECONDS * 2):
            welcome = self._conversation.welcomed(await websocket.recv())
        self._refusals = 0
        logger.info("Connected as %s", welcome.name, extra={"action": "connected", "epoch": welcome.epoch})
        heartbeat = Heartbeat(welcome.heartbeat_seconds, welcome.heartbeat_timeout_seconds, now=time.monotonic())
        tasks = [
            asyncio.create_task(self._read(websocket, heartbeat), name="agent's reader"),
            asyncio.create_task(self._write(websocket), name="agent's writer"),
            asyncio.create_task(self._beat(websocket, heartbeat), name="agent's heartbeat"),
            asyncio.create_task(self._renew_ahead(), name="agent's token"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()  # whoever fails first says why
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, websocket: ClientConnection, heartbeat: Heartbeat) -> None:
        while True:
            frame = await websocket.recv()
            heartbeat.received(time.monotonic())
            self._conversation.receive(frame)

    async def _write(self, websocket: ClientConnection) -> None:
        while True:
            self._something.clear()
            while (frame := self._conversation.next_frame()) is not None:
                try:
                    await websocket.send(frame)
                except AttributeError as error:
                    if not websocket.transport.is_closing():
                        raise
                    # The client ends a broken connection by aborting its transport, which fails in CPython 3.11 when
                    # the transport has closed itself just after its last byte: its loop is gone.
                    raise ConnectionResetError("the connection is gone") from error
            await self._something.wait()

    async def _beat(self, websocket: ClientConnection, heartbeat: Heartbeat) -> None:
        while True:
            await asyncio.sleep(max(0.0, heartbeat.deadline - time.monotonic()))
            match heartbeat.poll(time.monotonic()):
                case "ping":
                    self._conversation.say(Ping())
                case "lost":
                    websocket.transport.abort()
                    raise TimeoutError("the server does not answer")
                case None:
                    pass

    async def _renew_ahead(self) -> None:
        """Ask for the next tokens, over this connection, when about two thirds of the present one's life are over.

        Jittered, so that a fleet that was started together does not ask together.
        """
        while True:
            held = self._credentials
            due = held.access_expires_at - held.access_lifetime * random.uniform(0.25, 0.4)  # noqa: S311 — no secret
            await asyncio.sleep(max(0.0, due - time.time()))
            self._renewed.clear()
            self._conversation.say(Refresh(refresh_token=held.refresh_token))
            with suppress(TimeoutError):  # asked again then: the server answers a repeated question again
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._renewed.wait()

    def _take(self, tokens: Tokens) -> None:
        self._keep(self._credentials.renewed(tokens.access_token, tokens.expires_in, tokens.refresh_token))
        self._renewed.set()

    async def settle(self, longest: float) -> None:
        """Let a renewal that has begun come to its end: its answer holds the only tokens that are still good."""
        if self._renewing is not None:
            await asyncio.wait({self._renewing}, timeout=longest)

    async def _renew(self) -> None:
        """The next tokens. Raises AgentError.

        Whoever waits may give up; the exchange goes on, for a refresh token that is spent twice revokes the agent.
        """
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._exchange(), name="exchange of tokens")
        renewing = self._renewing
        try:
            await asyncio.shield(renewing)
        finally:
            if renewing.done() and self._renewing is renewing:
                self._renewing = None

    async def _exchange(self) -> None:
        self._keep(await refresh(self._credentials))

    def _keep(self, credentials: Credentials) -> None:
        """On disk before anyone uses them."""
        try:
            store.save(self._folder, credentials)
        except OSError:
            # The old ones are spent already: with these, the agent lives at least until it is stopped.
            logger.exception("The credentials cannot be kept", extra={"action": "credentials_not_kept"})
        self._credentials = credentials


def _retry_after(error: InvalidStatus) -> float:
    """The seconds that `Retry-After` asks for (RFC 9110 §10.2.3), within reason; 0 without it or with a date."""
    value = error.response.headers.get("Retry-After", "")
    return min(float(value), LONGEST_WAIT_SECONDS) if value.isdecimal() else 0.0


def _text(error: InvalidStatus) -> str:
    body = error.response.body or b""
    with suppress(msgspec.MsgspecError, KeyError, TypeError):
        return str(msgspec.json.decode(body)["detail"])
    return body.decode(errors="replace")[:300]
