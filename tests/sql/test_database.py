"""Connections of one's own."""

from __future__ import annotations

import asyncio

import pytest

from onsembl.sql.database import Connection, connect


async def test_a_connection_is_closed_when_its_block_is_cancelled_while_it_commits(database_url):
    used: list[Connection] = []

    async def use() -> None:
        async with await connect(database_url) as conn:
            used.append(conn)
            await conn.execute("insert into slow default values")

    async with await connect(database_url, autocommit=True) as watching:
        await watching.execute("create table slow (id integer)")
        await watching.execute(
            "create function wait() returns trigger language plpgsql as 'begin perform pg_sleep(999); return null; end'"
        )
        await watching.execute(
            """create constraint trigger at_commit after insert on slow deferrable initially deferred
               for each row execute function wait()"""
        )
        task = asyncio.create_task(use())
        async with asyncio.timeout(60):
            committing = "select 1 from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"
            while not await (await watching.execute(committing)).fetchone():
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert used[0].closed
