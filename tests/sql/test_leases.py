"""What one of several processes does at a time."""

from __future__ import annotations

import asyncio

import pytest
from support.agents import until

from onsembl.sql import leases
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import DATABASE_ERRORS, connect, create_pool
from onsembl.sql.leases import under_lease

HOLDER = """select pid, query_start from pg_stat_activity
            where pid = (select pid from pg_locks where locktype = 'advisory' and granted
                         and database = (select oid from pg_database where datname = current_database()))"""


@pytest.fixture
async def pool(database_url):
    async with create_pool(database_url, role="onsembl_api") as pool:
        yield pool


class Work:
    """Work that goes on until it may end."""

    def __init__(self) -> None:
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.cancelled = False

    async def run(self) -> None:
        self.begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def test_one_works_at_a_time(pool):
    """While one works under a lease, another one does nothing, and may work when the first has ended."""
    first, second = Work(), Work()
    second.may_end.set()
    holding = asyncio.create_task(under_lease(pool, "work", first.run))
    try:
        await first.begun.wait()
        assert not await under_lease(pool, "work", second.run)
        assert not second.begun.is_set()
        first.may_end.set()
        assert await holding
        assert await under_lease(pool, "work", second.run)
    finally:
        await cancel_until_done([holding])


async def test_a_lease_is_kept_and_lost_with_its_connection(pool, database_url, monkeypatch):
    """The transaction of a lease is never idle for long. When its connection is lost, the work is cancelled, and
    another one may work."""
    monkeypatch.setattr(leases, "KEEP_SECONDS", 0.01)
    work = Work()
    holding = asyncio.create_task(under_lease(pool, "work", work.run))
    try:
        await work.begun.wait()
        async with await connect(database_url, autocommit=True) as conn:

            async def holder() -> dict | None:
                return await (await conn.execute(HOLDER)).fetchone()

            first = await holder()
            assert first is not None

            async def kept() -> bool:
                now = await holder()
                return now is not None and now["query_start"] > first["query_start"]

            await until(kept, "a statement of the transaction")
            await conn.execute("select pg_terminate_backend(%s)", [first["pid"]])
        with pytest.raises(DATABASE_ERRORS):
            await holding
    finally:
        await cancel_until_done([holding])
    assert work.cancelled
    work.may_end.set()
    assert await under_lease(pool, "work", work.run)
