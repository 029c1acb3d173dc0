"""Broadcasts that the database sends: live from the log, and stored ones to replay."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from psycopg.rows import DictRow

from onsembl.realtime.channels.join import Replay
from onsembl.realtime.channels.limits import Limits
from onsembl.realtime.channels.serializer import Broadcast
from onsembl.realtime.channels.topics import PREFIX, Topics
from onsembl.realtime.replication.pgoutput import Change, Message
from onsembl.sql import realtime_messages as queries
from onsembl.sql.database import Pool

logger = logging.getLogger(__name__)


class DatabaseMessages:
    """Gives rows of `realtime.messages` to the topics they are for."""

    def __init__(self, pool: Pool, topics: Topics, limits: Limits) -> None:
        self._pool = pool
        self._topics = topics
        self._limits = limits
        self._ready = asyncio.Event()
        self.delivered = 0

    async def ready(self) -> None:
        """Returns when messages that are sent from now on arrive."""
        await self._ready.wait()

    async def replay(self, topic: str, replay: Replay) -> tuple[Broadcast, ...]:
        """Stored messages of a private topic, oldest first. Raises psycopg.Error."""
        since = datetime.fromtimestamp(replay.since / 1000, UTC)
        async with self._pool.connection() as conn:
            rows = await queries.newest(conn, topic, since, replay.limit)
        return tuple(_replayed(topic, row) for row in rows)

    # Consumer

    async def began(self) -> None:
        self._ready.set()

    async def ended(self) -> None:
        self._ready.clear()

    async def take(self, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, Change) and message.kind == "INSERT" and message.new is not None:
                row = {name: value for name, value in message.new.items() if isinstance(value, str)}
                self._send(row)

    def _send(self, row: dict[str, str]) -> None:
        binary = row.get("binary_payload")
        body = bytes.fromhex(binary[2:]) if binary is not None else row.get("payload", "").encode()
        event, topic = row.get("event"), row["topic"]
        if event is None or (binary is None and not body) or row["extension"] != "broadcast":
            logger.info("A row of realtime.messages is no broadcast", extra={"action": "realtime_bad_message"})
            return
        if len(body) > self._limits.payload_bytes:
            logger.warning("A broadcast by the database is too large", extra={"action": "realtime_message_too_large"})
            return
        broadcast = Broadcast(PREFIX + topic, event, body, binary is None, {"id": row["id"]})
        private = row.get("private") == "t"
        self.delivered += self._topics.broadcast((topic, private), broadcast, message_id=row["id"])


def _replayed(topic: str, row: DictRow) -> Broadcast:
    binary: bytes | None = row["binary_payload"]
    body = bytes(binary) if binary is not None else (row["payload"] or "{}").encode()
    meta = {"id": str(row["id"]), "replayed": True}
    return Broadcast(PREFIX + topic, row["event"] or "", body, binary is None, meta)
