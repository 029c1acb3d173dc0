"""Waiting for commands to change, many at a time over one listening connection."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

from onsembl.fleet.listener import listen
from onsembl.protocol.ids import CommandId
from onsembl.protocol.states import CommandState
from onsembl.sql.commands import CHANGED
from onsembl.sql.database import Pool


class Changes:
    """What is heard of one command. A state alone is as good as its row; of anything else the row has to be read."""

    def __init__(self) -> None:
        self._heard = asyncio.Event()
        self._state: CommandState | None = None

    def hear(self, state: CommandState | None) -> None:
        """It has changed; None when its row has to be read to know how."""
        unread = self._heard.is_set() and self._state is None
        self._state = None if unread else state
        self._heard.set()

    async def wait(self) -> None:
        """Until it has changed, perhaps already."""
        await self._heard.wait()

    def take(self) -> CommandState | None:
        """The state that it has come to; None when the row has to be read, and when nothing was heard."""
        self._heard.clear()
        state, self._state = self._state, None
        return state


class CommandWatch:
    """Wakes those who wait for a command whenever its row may have changed."""

    def __init__(self, url: str, pool: Pool) -> None:
        self._url = url
        self._pool = pool
        self._waiting: defaultdict[UUID, set[Changes]] = defaultdict(set)

    async def run(self) -> None:
        """Listen until cancelled."""
        await listen(self._url, [CHANGED], self._changed, self._wake_all)

    @asynccontextmanager
    async def watching(self, command_id: CommandId) -> AsyncGenerator[Changes]:
        """What is heard of a command from here on."""
        changes = Changes()
        self._waiting[command_id].add(changes)
        try:
            yield changes
        finally:
            self._waiting[command_id].discard(changes)
            if not self._waiting[command_id]:
                del self._waiting[command_id]

    async def _changed(self, _channel: str, payload: str) -> None:
        command_id, _, state = payload.partition(" ")
        for changes in self._waiting.get(UUID(command_id), ()):
            changes.hear(CommandState(state) if state else None)

    async def _wake_all(self) -> None:
        # What broke this connection broke the pool's too: they are replaced before a job finds out.
        await self._pool.check()
        for waiting in self._waiting.values():
            for changes in waiting:
                changes.hear(None)
