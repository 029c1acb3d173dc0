"""The one connection that listens, and those who share it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
import pytest

from onsembl.fleet import listener as module
from onsembl.fleet.listener import Listener
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import connect


class Heard:
    """A listener: what it was told, and how often it has begun."""

    def __init__(self) -> None:
        self.payloads: list[str] = []
        self.begun = 0
        self.changed = asyncio.Condition()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.fails: Exception | None = None

    async def on_notify(self, channel: str, payload: str) -> None:
        await self.may_go_on.wait()
        if self.fails is not None:
            error, self.fails = self.fails, None
            raise error
        async with self.changed:
            self.payloads.append(f"{channel} {payload}")
            self.changed.notify_all()

    async def on_listening(self) -> None:
        async with self.changed:
            self.begun += 1
            self.changed.notify_all()

    async def until(self, condition) -> None:
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(condition)


@asynccontextmanager
async def listening(url: str, *channels: str) -> AsyncGenerator[tuple[Listener, list[Heard], list[asyncio.Task]]]:
    listener, heard = Listener(url), [Heard() for _ in channels]
    tasks = [asyncio.create_task(listener.run())]
    for one, channel in zip(heard, channels, strict=True):
        tasks.append(asyncio.create_task(listener.listen([channel], one.on_notify, one.on_listening)))
    try:
        for one in heard:
            await one.until(lambda one=one: one.begun == 1)
        yield listener, heard, tasks
    finally:
        await cancel_until_done(tasks)


async def notify(url: str, channel: str, *payloads: str) -> None:
    async with await connect(url, autocommit=True) as conn:
        for payload in payloads:
            await conn.execute("select pg_notify(%s, %s)", [channel, payload])


async def sessions(url: str) -> list[int]:
    """The sessions that listen."""
    async with await connect(url, autocommit=True) as conn:
        rows = await conn.execute(
            """select pid from pg_stat_activity
               where datname = current_database() and (query like 'listen %' or query = 'select 1')"""
        )
        return [row["pid"] for row in await rows.fetchall()]


async def test_listeners_share_a_connection_and_nothing_else(database_url):
    """A slow listener delays no other, each hears its own channels, and one that begins later is heard, too."""
    async with listening(database_url, "a", "b") as (listener, (a, b), tasks):
        assert len(await sessions(database_url)) == 1
        a.may_go_on.clear()
        await notify(database_url, "a", "1", "2")
        await notify(database_url, "b", "3")
        await b.until(lambda: b.payloads == ["b 3"])
        assert a.payloads == []
        late = Heard()
        tasks.append(asyncio.create_task(listener.listen(["a", "c"], late.on_notify, late.on_listening)))
        await late.until(lambda: late.begun == 1)
        await notify(database_url, "c", "4")
        await late.until(lambda: late.payloads == ["c 4"])
        a.may_go_on.set()
        await a.until(lambda: a.payloads == ["a 1", "a 2"])
        assert len(await sessions(database_url)) == 1


async def test_every_listener_begins_again_after_a_lost_connection(database_url):
    """After the connection is lost, each listener reads its state again and hears what comes next."""
    async with listening(database_url, "a", "b") as (_, heard, _):
        async with await connect(database_url, autocommit=True) as conn:
            for pid in await sessions(database_url):
                await conn.execute("select pg_terminate_backend(%s)", [pid])
        for one, channel in zip(heard, "ab", strict=True):
            await one.until(lambda one=one: one.begun == 2)
            await notify(database_url, channel, "x")
            await one.until(lambda one=one, channel=channel: one.payloads == [f"{channel} x"])


async def test_a_connection_that_falls_silent_is_replaced(own_postgres, monkeypatch):
    """A connection over which nothing comes any more is found by a question: its listeners begin again on another.

    The server is the test's own: while one of its processes is stopped, it makes and drops no database.
    """
    database_url = own_postgres.url()
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.5)
    async with listening(database_url, "a") as (_, (a,), _):
        (pid,) = await sessions(database_url)
        os.kill(pid, signal.SIGSTOP)
        try:
            await a.until(lambda: a.begun == 2)
            await notify(database_url, "a", "1")
            await a.until(lambda: a.payloads == ["a 1"])
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("fault", ["database", "flood"])
async def test_a_listener_that_missed_something_begins_again_alone(database_url, monkeypatch, fault):
    """One that failed for want of the database, or was told too much, reads its state again; the others go on."""
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    async with listening(database_url, "a", "b") as (_, (a, b), _):
        if fault == "database":
            a.fails = psycopg.OperationalError("the database is away")
            await notify(database_url, "a", "1")
        else:
            a.may_go_on.clear()
            await notify(database_url, "a", *map(str, range(9)))
            await notify(database_url, "b", "last")
            await b.until(lambda: b.payloads == ["b last"])
            a.may_go_on.set()
        await a.until(lambda: a.begun == 2)
        assert b.begun == 1
