"""The connections of one process: their lanes, and a pooler in transaction mode."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, suppress

import pytest
from psycopg_pool import PoolTimeout
from support.transaction_pooler import transaction_pooler

from onsembl.sql.database import Connection, Pool, create_pool
from onsembl.sql.process_database import FEWEST_FOR_API, OPENED_AT_FIRST, ProcessDatabase


async def settings(conn: Connection) -> tuple[str, str, str]:
    cursor = await conn.execute(
        "select current_user as role, current_setting('search_path') as path, current_setting('role') as set_role"
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["role"], row["path"], row["set_role"]


async def test_requests_leave_every_other_kind_of_work_a_connection(database_url):
    """While requests hold all connections that they may have, the queue, the heartbeat and the archive get one each."""
    async with ProcessDatabase(database_url, FEWEST_FOR_API, api=True) as database, AsyncExitStack() as held:
        await held.enter_async_context(database.work.connection())
        for taken in (database.work, database.statements):
            with pytest.raises(PoolTimeout):
                await held.enter_async_context(taken.connection(0.01))
        for lane in (database.queue, database.heartbeat, database.archive(1.0)):
            await held.enter_async_context(lane.connection())
        stats = database.pool.get_stats()
        assert stats["pool_size"] == FEWEST_FOR_API - 1 and database.waiting == 0


async def test_short_statements_at_once_share_the_connections_that_are_open(database_url, monkeypatch):
    """Tasks that come at the same time open no further connection, unless one of them has waited for the others."""
    monkeypatch.setattr("onsembl.sql.process_database.GROW_SECONDS", 600.0)
    async with ProcessDatabase(database_url, 12, api=True) as database:
        await database.pool.wait()

        async def use(lane: Pool) -> None:
            async with lane.connection() as conn:
                await conn.execute("select 1")

        lanes = [database.work, database.statements, database.queue, database.heartbeat, database.archive(9.0)]
        await asyncio.gather(*(use(lane) for lane in lanes * 4))
        stats = database.pool.get_stats()
        assert stats["connections_num"] == OPENED_AT_FIRST and database.waiting == 0


async def test_lanes_lose_no_turn_when_tasks_are_cancelled(database_url):
    """After tasks were cancelled while they waited, took, used and returned a connection, every lane still works."""
    chance = random.Random(1)
    async with ProcessDatabase(database_url, FEWEST_FOR_API, api=True) as database:
        lanes = [database.work, database.statements, database.queue, database.heartbeat, database.archive(9.0)]

        async def use(lane: Pool) -> None:
            async with lane.connection():
                await asyncio.sleep(0)

        for _ in range(100):
            tasks = [asyncio.create_task(use(chance.choice(lanes))) for _ in range(8)]
            for task in tasks:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                if chance.random() < 0.5:
                    task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
        for lane in lanes:
            await asyncio.wait_for(use(lane), 30)
        assert database.waiting == 0


async def test_each_transaction_through_a_pooler_has_its_role(database_url):
    """Blocks, single statements, transactions inside a connection, and those after a commit or a rollback run as the
    API's role, whichever session they get; nothing stays behind in a session."""
    expected = ("onsembl_api", "onsembl, procrastinate, public", "onsembl_api")
    async with transaction_pooler(database_url, sessions=3) as (pooler, url):
        async with create_pool(url, role="onsembl_api", max_size=2, transaction_pooler=True) as pool:
            for _ in range(4):
                async with pool.connection() as conn:
                    assert await settings(conn) == expected
                    await conn.commit()
                    assert await settings(conn) == expected
                    await conn.rollback()
                    async with conn.transaction():
                        await conn.execute("set transaction isolation level repeatable read, read only")
                        assert await settings(conn) == expected
                    async with conn.transaction(), conn.transaction():
                        assert await settings(conn) == expected
                async with pool.connection() as conn:
                    await conn.set_autocommit(True)
                    for _ in range(8):  # psycopg would prepare a statement that comes again
                        assert await settings(conn) == expected
        assert pooler.transactions >= 20


async def test_a_setting_that_a_pooler_cannot_make_is_an_error(database_url):
    """A transaction whose role cannot be set does not begin."""
    async with transaction_pooler(database_url, sessions=1) as (_, url):
        async with create_pool(url, role="nobody_here", max_size=1, transaction_pooler=True) as pool:
            for _ in range(2):
                with pytest.raises(Exception, match="nobody_here"):
                    async with pool.connection() as conn:
                        await conn.execute("select 1")
