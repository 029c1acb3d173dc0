"""The Realtime stand-in: its socket, its endpoints, and the streams that feed every channel."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from onsembl.realtime.auth.events import OnRefused, ignore_refusals
from onsembl.realtime.channels.center import Center
from onsembl.realtime.channels.limits import Limits
from onsembl.realtime.channels.rest import BroadcastRoutes
from onsembl.realtime.channels.serializer import Version
from onsembl.realtime.channels.socket import RESTART, ClientSocket
from onsembl.realtime.replication.source import Source
from onsembl.realtime.tokens import BadToken
from onsembl.sql import realtime_changes, realtime_messages
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import create_pool

logger = logging.getLogger(__name__)

CHECK_SECONDS = 0.5
MAINTAIN_SECONDS = 3600.0
MAINTAIN_RETRY_SECONDS = 10.0


class ChannelsApp:
    """Serves `/realtime/v1`. Subscribers see what row-level security lets them see.

    The database's user owns the schema `realtime`, may `set role` to every role that a token names, reads the catalog,
    and has REPLICATION where the log is to be followed.
    """

    def __init__(
        self, database_url: str, limits: Limits | None = None, on_refused: OnRefused = ignore_refusals
    ) -> None:
        self._url = database_url
        self._pool = create_pool(database_url, min_size=1, max_size=4)
        self._limits = limits or Limits()
        self._on_refused = on_refused
        self.center = Center(self._pool, self._limits, RESTART)
        self._tasks: list[asyncio.Task[None]] = []
        self._role_of_key: Callable[[str], str | None]
        rest = BroadcastRoutes(self.center, self._authenticate)
        self.app = Starlette(
            routes=[
                WebSocketRoute("/websocket", self._socket),
                Route("/api/broadcast", rest.many, methods=["POST"]),
                Route("/api/broadcast/{topic}/events/{event}", rest.one, methods=["POST"]),
            ],
            middleware=[Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["POST"], allow_headers=["*"])],
        )

    async def start(self, role_of_key: Callable[[str], str | None], verify: Callable[[str], dict[str, Any]]) -> None:
        """Begin to follow the database. `verify` raises BadToken. Raises psycopg.OperationalError, PoolTimeout."""
        self._role_of_key = role_of_key
        self.center.verify = verify
        await self._pool.open(wait=True)
        async with self._pool.connection() as conn:
            await realtime_messages.maintain(conn)
        source = Source(self._url)
        self._begin("changes", source.follow(realtime_changes.PUBLICATION, self.center.feed))
        self._begin("database messages", source.follow(realtime_messages.PUBLICATION, self.center.messages))
        self._begin("sockets", self._check())
        self._begin("message partitions", self._maintain())

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work, name=f"realtime {name}"))

    async def stop(self) -> None:
        await cancel_until_done(self._tasks)
        for socket in list(self.center.sockets):
            socket.close(RESTART)
        await self._pool.close()

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            now, unix_time = time.monotonic(), time.time()
            for socket in list(self.center.sockets):
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
                logger.warning("Could not make partitions: %s", error, extra={"action": "realtime_maintain_failed"})

    async def _socket(self, websocket: WebSocket) -> None:
        key = websocket.headers.get("x-api-key") or websocket.query_params.get("apikey", "")
        try:
            claims = self._authenticate(key)
        except BadToken as error:
            return await self._refuse(websocket, 401, _handshake_text(error))
        if len(self.center.sockets) >= self._limits.concurrent_users:
            return await self._refuse(websocket, 429, "Too many connected users")
        version: Version = "2.0.0" if websocket.query_params.get("vsn", "1.0.0").startswith("2") else "1.0.0"
        socket = ClientSocket(websocket, version, claims, self.center)
        if not socket.known and self.center.unknown_at(socket.network) >= self._limits.unknown_at_address:
            return await self._refuse(websocket, 429, "Too many sockets without a user's token")
        self.center.sockets.add(socket)
        try:
            await websocket.accept()
            await socket.run()
        finally:
            self.center.sockets.discard(socket)
            if socket.timed_out:
                self._refused(websocket, "No user's token in time")
        return None

    def _refused(self, websocket: WebSocket, why: str) -> None:
        self.center.counters.sockets_refused += 1
        self._on_refused("realtime socket", why, websocket.client.host if websocket.client is not None else "")

    async def _refuse(self, websocket: WebSocket, status: int, error: str) -> None:
        self._refused(websocket, error)
        await asyncio.sleep(self._limits.connect_error_backoff)
        await websocket.send_denial_response(JSONResponse({"error": error}, status))

    def _authenticate(self, credential: str) -> dict[str, Any]:
        """The claims of a key or a token, as Supabase's gateway finds them. Raises BadToken."""
        if not credential:
            raise BadToken("MissingKey", "API key is missing")
        role = self._role_of_key(credential)
        return {"role": role} if role is not None else self.center.verify(credential)


def _handshake_text(error: BadToken) -> str:
    return "Token has expired" if error.message.startswith("Token has expired") else error.message
