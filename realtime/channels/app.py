"""The built-in Supabase Realtime: its socket, its endpoints, and the streams that feed every channel."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from onsembl.realtime.auth.events import OnRejected, ignore_rejections
from onsembl.realtime.channels.limits import RealtimeLimits
from onsembl.realtime.channels.rest import BroadcastRoutes
from onsembl.realtime.channels.serializer import Version
from onsembl.realtime.channels.server import SERVICE_RESTART, RealtimeServer
from onsembl.realtime.channels.socket import ClientSocket
from onsembl.realtime.replication.source import ChangeConsumer, ChangeSource
from onsembl.realtime.tokens import BadToken
from onsembl.sql import realtime_changes, realtime_messages
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import create_pool
from onsembl.sql.supervision import start_supervised

logger = logging.getLogger(__name__)

CHECK_SECONDS = 0.5
MAINTAIN_SECONDS = 3600.0
MAINTAIN_RETRY_SECONDS = 10.0


class RealtimeApp:
    """Serves `/realtime/v1`. Row-level security decides which rows a subscriber sees.

    The database's user owns the schema `realtime`, may `set role` to every role that a token names, may read the
    catalog, and has REPLICATION for the write-ahead log; without it, changes go through the outbox.
    """

    def __init__(
        self,
        database_url: str,
        limits: RealtimeLimits | None = None,
        on_rejected: OnRejected = ignore_rejections,
        on_failure: Callable[[Exception], None] = lambda _error: None,
    ) -> None:
        self._url = database_url
        self._pool = create_pool(database_url, min_size=1, max_size=2, check=True)
        self._delivery_pool = create_pool(database_url, min_size=0, max_size=1)
        self._filter_pool = create_pool(database_url, min_size=0, max_size=2, check=True)
        self._limits = limits or RealtimeLimits()
        self._on_rejected = on_rejected
        self._on_failure = on_failure
        self.server = RealtimeServer(self._pool, self._delivery_pool, self._filter_pool, self._limits)
        self._tasks: list[asyncio.Task[None]] = []
        self._first_socket = asyncio.Event()
        self._role_of_key: Callable[[str], str | None]
        rest = BroadcastRoutes(self.server, self._authenticate)
        self.app = Starlette(
            routes=[
                WebSocketRoute("/websocket", self._socket),
                Route("/api/broadcast", rest.send_batch, methods=["POST"]),
                Route("/api/broadcast/{topic}/events/{event}", rest.send_one, methods=["POST"]),
            ],
            middleware=[Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["POST"], allow_headers=["*"])],
        )

    async def start(self, role_of_key: Callable[[str], str | None], verify: Callable[[str], dict[str, Any]]) -> None:
        """Start to serve; changes are streamed from the first socket on. `verify` returns a token's claims or raises
        BadToken.

        Raises psycopg.OperationalError and PoolTimeout.
        """
        self._role_of_key = role_of_key
        self.server.verify = verify
        for pool in (self._pool, self._delivery_pool, self._filter_pool):
            await pool.open(wait=True)
        async with self._pool.connection() as conn:
            await realtime_messages.maintain(conn)
            await realtime_changes.publish_generated_columns(conn)
        source = ChangeSource(self._url)
        broadcasts = self.server.database_broadcasts
        self._run("stream of changes", partial(self._stream, source, self.server.feed, realtime_changes.PUBLICATION))
        self._run("stream of broadcasts", partial(self._stream, source, broadcasts, realtime_messages.PUBLICATION))
        self._run("check of sockets", self._check_sockets)
        self._run("upkeep of partitions", self._maintain)

    def _run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self._tasks.append(start_supervised(f"Realtime's {name}", work, self._on_failure))

    async def stop(self) -> None:
        await cancel_until_done(self._tasks)
        for socket in list(self.server.sockets):
            socket.close(SERVICE_RESTART)
        await self.server.feed.filters.stop()
        for pool in (self._filter_pool, self._delivery_pool, self._pool):
            await pool.close()

    async def _stream(self, source: ChangeSource, consumer: ChangeConsumer, publication: str) -> None:
        """Stream to a consumer once a client is there: until then, Postgres would decode its log for nobody."""
        await self._first_socket.wait()
        await source.stream_to(consumer, publication)

    async def _check_sockets(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            now, unix_time = time.monotonic(), time.time()
            for socket in list(self.server.sockets):
                socket.check(now, unix_time)

    async def _maintain(self) -> None:
        pause = MAINTAIN_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                async with self._pool.connection() as conn:
                    await realtime_messages.maintain(conn)
                pause = MAINTAIN_SECONDS
            except (psycopg.Error, PoolTimeout) as error:
                pause = MAINTAIN_RETRY_SECONDS
                logger.warning(
                    "Maintaining the partitions of realtime.messages failed: %s",
                    error,
                    extra={"action": "realtime_maintain_failed"},
                )

    async def _socket(self, websocket: WebSocket) -> None:
        key = websocket.headers.get("x-api-key") or websocket.query_params.get("apikey", "")
        try:
            claims = self._authenticate(key)
        except BadToken as error:
            return await self._reject(websocket, 401, _handshake_text(error))
        if len(self.server.sockets) >= self._limits.concurrent_users:
            return await self._reject(websocket, 429, "Too many connected users")
        version: Version = "2.0.0" if websocket.query_params.get("vsn", "1.0.0").startswith("2") else "1.0.0"
        socket = ClientSocket(websocket, version, claims, self.server)
        unauthenticated = self.server.unauthenticated_from(socket.network)
        if not socket.authenticated and unauthenticated >= self._limits.unauthenticated_per_address:
            return await self._reject(websocket, 429, "Too many sockets without a user's token")
        self.server.sockets.add(socket)
        self._first_socket.set()
        try:
            await websocket.accept()
            await socket.run()
        finally:
            self.server.sockets.discard(socket)
            if socket.timed_out:
                self._count_rejection(websocket, "No user's token in time")
        return None

    def _count_rejection(self, websocket: WebSocket, reason: str) -> None:
        self.server.counters.sockets_rejected += 1
        self._on_rejected("realtime socket", reason, websocket.client.host if websocket.client is not None else "")

    async def _reject(self, websocket: WebSocket, status: int, error: str) -> None:
        self._count_rejection(websocket, error)
        await asyncio.sleep(self._limits.connect_error_backoff)
        await websocket.send_denial_response(JSONResponse({"error": error}, status))

    def _authenticate(self, credential: str) -> dict[str, Any]:
        """The claims of a key or a token, as Supabase's gateway derives them. Raises BadToken."""
        if not credential:
            raise BadToken("MissingKey", "API key is missing")
        role = self._role_of_key(credential)
        return {"role": role} if role is not None else self.server.verify(credential)


def _handshake_text(error: BadToken) -> str:
    return "Token has expired" if error.message.startswith("Token has expired") else error.message
