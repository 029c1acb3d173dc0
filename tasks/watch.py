"""Waiting for commands to change, many at a time over one listening connection."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

from onsembl.protocol.ids import CommandId
from onsembl.sql.commands import CHANGED
from onsembl.sql.database import Pool
from onsembl.tasks.listener import listen


class CommandWatch:
    """Wakes those who wait for a command whenever its row may have changed."""

    def __init__(self, url: str, pool: Pool) -> None:
        self._url = url
        self._pool = pool
        self._waiting: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)

    async def run(self) -> None:
        """Listen until cancelled."""
        await listen(self._url, [CHANGED], self._changed, self._wake_all)

    @asynccontextmanager
    async def watching(self, command_id: CommandId) -> AsyncGenerator[asyncio.Event]:
        """An event that is set at each change; clear it, then read the row."""
        event = asyncio.Event()
        self._waiting[command_id].add(event)
        try:
            yield event
        finally:
            self._waiting[command_id].discard(event)
            if not self._waiting[command_id]:
                del self._waiting[command_id]

    async def _changed(self, _channel: str, payload: str) -> None:
        for event in self._waiting.get(UUID(payload), ()):
            event.set()

    async def _wake_all(self) -> None:
        # What broke this connection broke the pool's too: they are replaced before a job finds out.
        await self._pool.check()
        for events in self._waiting.values():
            for event in events:
                event.set()
