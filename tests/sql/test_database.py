"""Connections to Postgres: a cancelled task neither leaves a connection open nor takes one from the pool."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, suppress

import pytest
from psycopg import waiting
from psycopg.pq import TransactionStatus
from support.connections import closing

from onsembl.realtime.replication.wal_stream import stream_wal
from onsembl.sql import database
from onsembl.sql.database import (
    DATABASE_ERRORS,
    Connection,
    PromptConnection,
    allow_pauses,
    connect,
    create_pool,
    statement,
)


async def test_a_connection_is_closed_when_its_block_is_cancelled_while_it_commits(database_url):
    """A connection is closed when its task is cancelled during a commit."""
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


@pytest.mark.parametrize("transaction_pooler", [False, True])
async def test_a_transaction_whose_process_is_stopped_ends(database_url, monkeypatch, transaction_pooler):
    """Postgres ends it, and others get its locks, as when an API process is stopped while it writes an agent's row. The
    pool goes on. A transaction that waits for the reader of its rows does not end."""
    monkeypatch.setattr(database, "PAUSE_MS", 300)
    async with create_pool(database_url, max_size=3, transaction_pooler=transaction_pooler) as pool:
        async with pool.connection() as conn:
            await conn.execute("create table counted as select 0 as n")
        async with pool.connection() as reading, pool.connection() as other:
            await allow_pauses(reading)
            with pytest.raises(DATABASE_ERRORS):
                async with pool.connection() as stopped:
                    await stopped.execute("update counted set n = 1")
                    await other.execute("update counted set n = n + 10")  # waits for the lock
                    await stopped.execute("select 1")
            await reading.execute("select 1")
        async with pool.connection() as conn:
            cursor = await conn.execute("select n from counted")
            assert await cursor.fetchone() == {"n": 10}


async def _connect(url: str) -> object:
    return await connect(url)


async def _follow_the_log(url: str) -> object:
    return await anext(stream_wal(url, "publication"))


@pytest.mark.parametrize("use", [_connect, _follow_the_log])
async def test_a_connection_is_closed_when_it_is_cancelled_while_it_is_made(use: Callable[[str], Awaitable[object]]):
    """A connection is closed when its task is cancelled during the authentication, in which Postgres would else wait
    for a minute and keep the database from being dropped."""
    async with _silent_server() as (url, asked, closed):
        task = asyncio.ensure_future(use(url))
        await asked.wait()
        task.cancel()
        await asyncio.wait([task])  # keeps the task, and with it the traceback
        async with asyncio.timeout(60):
            await closed.wait()
        assert task.cancelled()


async def test_a_pool_keeps_its_connections_when_tasks_are_cancelled(database_url):
    """A pool keeps its connections when tasks are cancelled at any step of taking, using and returning one."""
    chance = random.Random(1)
    async with create_pool(database_url, min_size=2, max_size=2) as pool:

        async def use() -> None:
            async with pool.connection():
                await steps(3)

        async def steps(below: int) -> None:
            for _ in range(chance.randrange(below)):
                await asyncio.sleep(0)

        for _ in range(200):
            tasks = [asyncio.create_task(use()) for _ in range(chance.randrange(3, 7))]
            await steps(12)
            for task in tasks:
                if chance.random() < 0.5:
                    task.cancel()
                await steps(3)
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task


@asynccontextmanager
async def _silent_server() -> AsyncGenerator[tuple[str, asyncio.Event, asyncio.Event]]:
    """Yield the address of a server that never answers, an event for a client's request, and one for its
    disconnection."""
    asked, closed = asyncio.Event(), asyncio.Event()

    @closing
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1024):
                asked.set()
        finally:
            closed.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://nobody@127.0.0.1:{port}/nowhere", asked, closed


async def test_a_cancelled_statement_leaves_no_connection_in_its_mode(database_url, monkeypatch):
    """A task is cancelled when its connection has just begun to make each statement a transaction, as happens in a
    process that was busy or stopped; another within a transaction. Later blocks of the pool are transactions."""
    monkeypatch.setattr(waiting, "MAX_BUSY_TIME", 0.0)  # psycopg yields at the end of each call
    set_mode = PromptConnection._set_autocommit_gen

    def set_mode_and_cancel(conn: PromptConnection, value: bool) -> Generator:
        yield from set_mode(conn, value)
        if value:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    async def use() -> None:
        async with statement(pool):
            pytest.fail("the task was to be cancelled")

    async def begin() -> None:
        async with statement(pool) as conn:
            await conn.execute("begin")
            raise asyncio.CancelledError

    async with create_pool(database_url, max_size=1) as pool:
        await pool.wait()
        for fault in (use, begin):
            with monkeypatch.context() as patch:
                if fault is use:
                    patch.setattr(PromptConnection, "_set_autocommit_gen", set_mode_and_cancel)
                task = asyncio.create_task(fault())
                await asyncio.wait([task])
                assert task.cancelled()
            async with pool.connection() as conn:
                assert not conn.autocommit
                await conn.execute("select 1")
                assert conn.info.transaction_status is TransactionStatus.INTRANS
