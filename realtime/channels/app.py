"""The Realtime stand-in: its socket, and the one stream of changes that feeds every channel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from onsembl.realtime.channels.changes import ChangeDelivery
from onsembl.realtime.channels.channel import Channel
from onsembl.realtime.channels.serializer import Version
from onsembl.realtime.channels.socket import RESTART, ClientSocket
from onsembl.realtime.replication.pgoutput import Begin, Change, Message, Relation
from onsembl.realtime.replication.stream import follow
from onsembl.sql.database import create_pool
from onsembl.sql.realtime_changes import PUBLICATION

logger = logging.getLogger(__name__)

SUBSCRIBED = "Subscribed to PostgreSQL"


class ChannelsApp:
    """Serves `/realtime/v1`. Subscribers see what row-level security lets them see."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._pool = create_pool(database_url, min_size=1, max_size=4)
        self._delivery = ChangeDelivery(self._pool)
        self._sockets: set[ClientSocket] = set()
        self._subscribers: dict[Channel, None] = {}  # in the order they came
        self._streaming = False
        self._committed_at = datetime.now(UTC)
        self._following: asyncio.Task[None] | None = None
        self._role_of_key: Callable[[str], str | None]
        self._verify: Callable[[str], dict[str, Any]]
        self.app = Starlette(routes=[WebSocketRoute("/websocket", self._socket)])

    async def start(self, role_of_key: Callable[[str], str | None], verify: Callable[[str], dict[str, Any]]) -> None:
        """Begin to follow the log. `verify` raises BadToken."""
        self._role_of_key = role_of_key
        self._verify = verify
        await self._pool.open(wait=True)
        self._following = asyncio.create_task(
            follow(self._url, PUBLICATION, self._stream_began, self._take, self._stream_ended)
        )

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        for socket in list(self._sockets):
            socket.close(RESTART)
        await self._pool.close()

    # What the sockets share (Center)

    def verify(self, token: str) -> dict[str, Any]:
        return self._verify(token)

    def joined(self, channel: Channel) -> None:
        self._subscribers[channel] = None
        if self._streaming:
            channel.system("postgres_changes", "ok", SUBSCRIBED)

    def left(self, channel: Channel) -> None:
        self._subscribers.pop(channel, None)

    async def _socket(self, websocket: WebSocket) -> None:
        key = websocket.headers.get("x-api-key") or websocket.query_params.get("apikey", "")
        role = self._role_of_key(key)
        if role is None:
            error = "API key is missing" if not key else "Invalid API key"
            await websocket.send_denial_response(JSONResponse({"error": error}, 401))
            return
        await websocket.accept()
        version: Version = "2.0.0" if websocket.query_params.get("vsn", "1.0.0").startswith("2") else "1.0.0"
        socket = ClientSocket(websocket, version, {"role": role}, self)
        self._sockets.add(socket)
        try:
            await socket.run()
        finally:
            self._sockets.discard(socket)

    # The stream of changes

    async def _stream_began(self) -> None:
        self._streaming = True
        self._delivery.forget_columns()
        for channel in self._subscribers:
            channel.system("postgres_changes", "ok", SUBSCRIBED)

    async def _stream_ended(self) -> None:
        """Changes were missed. The clients that follow them are sent off: they come back and read their state anew."""
        self._streaming = False
        for socket in list(self._sockets):
            if socket.follows_changes:
                socket.close(RESTART)

    async def _take(self, message: Message) -> None:
        match message:
            case Begin():
                self._committed_at = message.committed_at
            case Relation():
                self._delivery.forget_columns()
            case Change():
                try:
                    await self._delivery.deliver(message, self._committed_at, list(self._subscribers))
                except PoolTimeout as error:
                    raise psycopg.OperationalError("no connection to check subscribers with") from error
            case _:
                pass
