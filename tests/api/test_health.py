"""`/readyz` tells whether the database can be written, at the cost of one write a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from psycopg_pool import PoolTimeout

from onsembl.api.http.health import Readiness
from onsembl.sql.database import create_pool


class BrokenPool:
    """A pool without a connection, which counts the requests."""

    def __init__(self) -> None:
        self.asked = 0

    @asynccontextmanager
    async def connection(self, _patience: float) -> AsyncGenerator[None]:
        self.asked += 1
        await asyncio.sleep(0)
        raise PoolTimeout
        yield


async def test_concurrent_probes_share_one_check():
    """Fifty probes at the same time ask the database once, and all get its answer."""
    pool = BrokenPool()
    readiness = Readiness(pool)  # type: ignore[arg-type]
    problems = await asyncio.gather(*(readiness.problem() for _ in range(50)))
    assert problems == ["The database is not responding."] * 50
    assert pool.asked == 1


async def test_a_database_that_can_only_be_read_is_not_ready(database_url: str):
    """The reason is that the database cannot be written; nothing is left of the writes that succeed."""
    async with create_pool(database_url, role="onsembl_api", max_size=1) as pool:
        assert await Readiness(pool).problem() is None
        async with pool.connection() as conn:
            rows = await (await conn.execute("select count(*) as count from pg_temp.write_probe")).fetchone()
            assert rows == {"count": 0}
            await conn.commit()
            await conn.set_read_only(True)
        assert await Readiness(pool).problem() == "The database cannot be written."
