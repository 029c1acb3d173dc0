"""The connections of one process for its statements: one pool, in which no kind of work takes the last connection of
another kind.

The process has one connection more, which listens (fleet/listener.py). Both together are the number of connections that
a setting gives to the process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Self

from psycopg_pool import PoolTimeout

from onsembl.sql.database import Connection, Pool, create_pool, statement

PATIENCE_SECONDS = 15.0
"""How long a task waits for a connection, in seconds."""
LISTENING = 1
"""The connections of a process outside its pool."""
API_RESERVED = 2
"""The connections that an API process keeps for its heartbeat and for its archive."""
FEWEST_FOR_API = LISTENING + API_RESERVED + 2
FEWEST_FOR_WORKER = LISTENING + 2
"""The fewest connections with which a process works: its requests or jobs, and its queue, have one connection each."""
OPENED_AT_FIRST = 2
"""The connections that the pool opens without a task that has waited for one."""
GROW_SECONDS = 0.1
"""How long a task waits for an open connection before the pool opens one more, in seconds. Most statements take a
fiftieth of that, and a new connection costs Postgres more than many of them: it reads the catalogue for itself."""


class ProcessDatabase:
    """The pool of a process, whose lanes are its parts (`async with` opens and closes it).

    `connections` is the number of all connections of the process. Its statements go to `pooler_url`, which may lead to
    a pooler in transaction mode, or else to `url`. An `api` process has a heartbeat and an archive of its own.
    """

    def __init__(self, url: str, connections: int, *, pooler_url: str | None = None, api: bool) -> None:
        assert connections >= (FEWEST_FOR_API if api else FEWEST_FOR_WORKER)
        size = connections - LISTENING
        self.pool = create_pool(
            pooler_url or url,
            role="onsembl_api",
            max_size=size,
            patience=PATIENCE_SECONDS,
            transaction_pooler=pooler_url is not None,
        )
        self.turns = _Turns(size)
        self.waiting = 0
        """The number of tasks that wait for their turn outside the pool."""
        shared = size - (API_RESERVED if api else 0)
        work, queue = asyncio.Semaphore(shared - 1), asyncio.Semaphore(shared)
        self.work: Pool = _Lane(self, work, queue)
        """For requests and jobs, which may keep a connection for long."""
        self.statements: Pool = _Lane(self, work, queue, autocommit=True)
        """For single statements of requests and jobs, each a transaction of its own."""
        self.queue: Pool = _Lane(self, queue, autocommit=True)
        """For the short statements of the queue, such as a worker's heartbeat, each a transaction of its own, and for
        the lease of an API process that wakes workers."""
        self.heartbeat: Pool = _Lane(self, asyncio.Semaphore(1))
        """For the heartbeat of an API process, which does not wait for requests."""

    def archive(self, patience: float) -> Pool:
        """The lane of the archiver, which does not wait for requests, and at most `patience` seconds."""
        return _Lane(self, asyncio.Semaphore(1), patience=patience)

    async def __aenter__(self) -> Self:
        await self.pool.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.pool.__aexit__(exc_type, exc_val, exc_tb)


class _Turns:
    """Has the pool open a connection only when a task has waited for one, at most `most`.

    The pool itself would open one for each task that comes while all are in use, such as for each part of the process
    at its start.
    """

    def __init__(self, most: int) -> None:
        self._left = most - min(OPENED_AT_FIRST, most)
        self._free = asyncio.Semaphore(most - self._left)

    async def take(self) -> None:
        """Wait for an open connection, or for the time to open another one."""
        if self._left and self._free.locked():
            with suppress(TimeoutError):
                async with asyncio.timeout(GROW_SECONDS):
                    await self._free.acquire()
                    return
            if self._left:
                self._left -= 1
                return
        await self._free.acquire()

    def give_back(self) -> None:
        self._free.release()


class _Lane:
    """The connections that the gates let through."""

    def __init__(
        self,
        database: ProcessDatabase,
        *gates: asyncio.Semaphore,
        patience: float = PATIENCE_SECONDS,
        autocommit: bool = False,
    ) -> None:
        self._database = database
        self._gates = gates
        self._patience = patience
        self._autocommit = autocommit

    @asynccontextmanager
    async def connection(self, patience: float | None = None, /) -> AsyncGenerator[Connection]:
        """A connection for a block. Raises PoolTimeout after `patience` seconds, or those of the lane."""
        patience = self._patience if patience is None else patience
        deadline = time.monotonic() + patience
        async with AsyncExitStack() as stack:
            with self._waiting():
                try:
                    async with asyncio.timeout(patience):
                        for gate in self._gates:
                            await stack.enter_async_context(gate)
                        await self._database.turns.take()
                        stack.callback(self._database.turns.give_back)
                except TimeoutError as error:
                    raise PoolTimeout(f"couldn't get a connection after {patience:.2f} sec") from error
            pool, left = self._database.pool, max(0.0, deadline - time.monotonic())
            lent = statement(pool, left) if self._autocommit else pool.connection(left)
            yield await stack.enter_async_context(lent)

    async def check(self) -> None:
        """Replace the idle connections that are broken."""
        await self._database.pool.check()

    @contextmanager
    def _waiting(self) -> Generator[None]:
        self._database.waiting += 1
        try:
            yield
        finally:
            self._database.waiting -= 1
