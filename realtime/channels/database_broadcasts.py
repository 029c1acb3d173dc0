"""Broadcasts from the database: live ones from the stream of changes, and stored ones for replay."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from psycopg.rows import DictRow

from onsembl.realtime.channels.join import Replay
from onsembl.realtime.channels.limits import RealtimeLimits
from onsembl.realtime.channels.serializer import BroadcastMessage
from onsembl.realtime.channels.topics import PREFIX, Topics
from onsembl.realtime.replication.pgoutput import Change, ReplicationMessage
from onsembl.sql import realtime_messages
from onsembl.sql.database import Pool

logger = logging.getLogger(__name__)


class DatabaseBroadcasts:
    """A ChangeConsumer that broadcasts each new row of `realtime.messages` on its topic."""

    def __init__(self, pool: Pool, topics: Topics, limits: RealtimeLimits) -> None:
        self._pool = pool
        self._topics = topics
        self._limits = limits
        self._streaming = asyncio.Event()
        self.delivered = 0

    async def ready(self) -> None:
        """Wait until messages that the database sends from now on are broadcast."""
        await self._streaming.wait()

    async def replay(self, topic: str, replay: Replay) -> tuple[BroadcastMessage, ...]:
        """Stored messages of a private topic, oldest first. Raises psycopg.Error."""
        since = datetime.fromtimestamp(replay.since / 1000, UTC)
        async with self._pool.connection() as conn:
            rows = await realtime_messages.newest(conn, topic, since, replay.limit)
        return tuple(_replayed(topic, row) for row in rows)

    # ChangeConsumer

    async def started(self) -> None:
        self._streaming.set()

    async def stopped(self) -> None:
        self._streaming.clear()

    async def receive(self, messages: list[ReplicationMessage]) -> None:
        for message in messages:
            if isinstance(message, Change) and message.kind == "INSERT" and message.new is not None:
                row = {name: value for name, value in message.new.items() if isinstance(value, str)}
                self._broadcast(row)

    def _broadcast(self, row: dict[str, str]) -> None:
        binary = row.get("binary_payload")
        body = bytes.fromhex(binary[2:]) if binary is not None else row.get("payload", "").encode()
        event, topic = row.get("event"), row["topic"]
        if event is None or (binary is None and not body) or row["extension"] != "broadcast":
            logger.info("Ignored a row of realtime.messages", extra={"action": "realtime_bad_message"})
            return
        if len(body) > self._limits.payload_bytes:
            logger.warning(
                "Dropped a broadcast from the database that is too large",
                extra={"action": "realtime_message_too_large"},
            )
            return
        broadcast = BroadcastMessage(PREFIX + topic, event, body, binary is None, {"id": row["id"]})
        private = row.get("private") == "t"
        self.delivered += self._topics.broadcast((topic, private), broadcast, message_id=row["id"])


def _replayed(topic: str, row: DictRow) -> BroadcastMessage:
    binary: bytes | None = row["binary_payload"]
    body = bytes(binary) if binary is not None else (row["payload"] or "{}").encode()
    meta = {"id": str(row["id"]), "replayed": True}
    return BroadcastMessage(PREFIX + topic, row["event"] or "", body, binary is None, meta)
