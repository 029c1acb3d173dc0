"""Reads the changes of a test's own database as the server does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any

import pytest

from onsembl.realtime.replication.pgoutput import Change, Commit, ReplicationMessage

PATIENCE = 60.0


class Log:
    """The messages of a stream, one by one."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self._messages: list[ReplicationMessage] = []
        self.seen: list[ReplicationMessage] = []

    async def next(self) -> ReplicationMessage:
        while not self._messages:
            self._messages = list(await asyncio.wait_for(anext(self._batches), PATIENCE))
        self.seen.append(self._messages.pop(0))
        return self.seen[-1]

    async def change(self) -> Change:
        while not isinstance(message := await self.next(), Change):
            pass
        return message

    async def until_commit(self) -> list[ReplicationMessage]:
        messages = [await self.next()]
        while not isinstance(messages[-1], Commit):
            messages.append(await self.next())
        return messages


Reader = Callable[[Any], AbstractAsyncContextManager[Log]]


@asynccontextmanager
async def reading(batches: AsyncGenerator[list[ReplicationMessage]]) -> AsyncGenerator[Log]:
    async with aclosing(batches):
        assert await asyncio.wait_for(anext(batches), PATIENCE) == []  # The stream has started.
        yield Log(batches)


@pytest.fixture
def read() -> Reader:
    """`async with read(stream_wal(…)) as log`."""
    return reading
