"""Leases: what one of several processes does at a time, for longer than a statement.

A lease is an advisory lock, held by a transaction that is kept alive beside the work. It is lost with its process, with
its connection, and `PAUSE_MS` after its process was stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from onsembl.sql import locks
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import PAUSE_MS, Connection, Pool

KEEP_SECONDS = PAUSE_MS / 1000 / 4
"""How often the transaction of a lease is kept alive, in seconds."""


async def under_lease(pool: Pool, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Do the work while this process holds the lease of this name; False when another one holds it.

    The work is cancelled when the lease is lost. Raises a database error then, and the work's own errors.
    """
    async with pool.connection() as conn, conn.transaction():
        if not await locks.try_take(conn, name):
            return False
        working, kept = asyncio.create_task(work()), asyncio.create_task(_keep(conn))
        try:
            await asyncio.wait({working, kept}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_until_done([working, kept])
        for task in (kept, working):
            if not task.cancelled():
                task.result()
        return True


async def _keep(conn: Connection) -> None:
    while True:
        await asyncio.sleep(KEEP_SECONDS)
        await conn.execute("select")
