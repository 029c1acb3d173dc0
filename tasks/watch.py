"""Waiting for commands to change, many at a time over the process's listening connection."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

from onsembl.fleet.listener import Listener
from onsembl.protocol.ids import CommandId
from onsembl.protocol.states import CommandState
from onsembl.sql.commands import CHANGED
from onsembl.sql.database import Pool


class CommandChanges:
    """The changes of one command. A state alone needs no read of the row; any other change does."""

    def __init__(self) -> None:
        self._heard = asyncio.Event()
        self._state: CommandState | None = None

    def hear(self, state: CommandState | None) -> None:
        """Record a change; `state` is None when the row has to be read."""
        unread = self._heard.is_set() and self._state is None
        self._state = None if unread else state
        self._heard.set()

    async def wait(self) -> None:
        """Wait for the next change, or return at once after a change that was not yet taken."""
        await self._heard.wait()

    def take(self) -> CommandState | None:
        """The command's new state; None when the row has to be read, or when nothing has changed."""
        self._heard.clear()
        state, self._state = self._state, None
        return state


class CommandWatch:
    """Wakes the jobs that wait for a command whenever the command's row may have changed."""

    def __init__(self, listener: Listener, pool: Pool) -> None:
        self._listener = listener
        self._pool = pool
        self._waiting: defaultdict[UUID, set[CommandChanges]] = defaultdict(set)

    async def run(self) -> None:
        """Listen until cancelled."""
        await self._listener.listen([CHANGED], self._changed, self._wake_all)

    @asynccontextmanager
    async def watching(self, command_id: CommandId) -> AsyncGenerator[CommandChanges]:
        """The changes of a command from here on."""
        changes = CommandChanges()
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
        if self._listener.lost:  # replace the pool's broken connections before a job uses one
            await self._pool.check()
        for waiting in self._waiting.values():
            for changes in waiting:
                changes.hear(None)
