"""The write-ahead log of a real Postgres, streamed through a temporary slot."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import psycopg
import pytest

from onsembl.realtime.replication.pgoutput import UNCHANGED, Begin, Change, Commit, Relation, Truncate, Type
from onsembl.realtime.replication.wal_stream import stream_wal
from onsembl.sql.database import connect
from onsembl.sql.realtime_changes import PUBLICATION

TABLE = """
    create type public.mood as enum ('sad', 'happy');
    create table public.kinds (
        id uuid primary key default gen_random_uuid(),
        a_text text, a_bigint bigint, a_smallint smallint, an_integer integer, a_time timestamptz, a_jsonb jsonb,
        a_bytea bytea, a_boolean boolean, an_array text[], a_numeric numeric, a_mood mood, a_null text
    );
    alter publication supabase_realtime add table public.kinds;
"""


@pytest.fixture
async def kinds(database_url: str) -> Any:
    async with await connect(database_url, autocommit=True) as conn:
        await conn.execute(TABLE)
        yield conn


async def test_a_transaction_is_streamed_from_begin_to_commit(database_url, kinds, read):
    """A transaction has its time, its number, and the table's columns before the first change."""
    async with read(stream_wal(database_url, PUBLICATION)) as log:
        async with kinds.transaction():
            cursor = await kinds.execute("select pg_current_xact_id()::text::bigint as xid")
            xid = (await cursor.fetchone())["xid"]
            await kinds.execute("insert into kinds (a_text) values ('x')")
        messages = await log.until_commit()
    begin, *others, commit = messages
    assert isinstance(begin, Begin)
    assert begin.xid == xid % 2**32
    assert isinstance(commit, Commit)
    assert abs(commit.committed_at - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=1)
    assert begin.committed_at == commit.committed_at
    assert [m.name for m in others if isinstance(m, Type)] == ["mood"]
    relation = next(m for m in others if isinstance(m, Relation))
    assert (relation.schema, relation.table, relation.identity) == ("public", "kinds", "d")
    assert [c.name for c in relation.columns if c.in_identity] == ["id"]
    assert isinstance(others[-1], Change)


async def test_every_type_in_its_text_form(database_url, kinds, read):
    """Values come as Postgres writes them, in fixed formats whatever the writer's settings."""
    async with read(stream_wal(database_url, PUBLICATION)) as log:
        await kinds.execute("set timezone to 'Asia/Tokyo'; set datestyle to 'German'; set bytea_output to 'escape'")
        await kinds.execute(
            """insert into kinds values (
                '5f1b5c1e-0000-4000-8000-000000000001', 'naïve "text"', 9007199254740993, -5, 7,
                '2026-01-02 03:04:05.678+01', '{"a": [1, null]}', '\\x00ff', true, array['a,b', null, '"'], 12.3400,
                'happy', null)"""
        )
        change = await log.change()
    assert change.kind == "INSERT"
    assert change.new == {
        "id": "5f1b5c1e-0000-4000-8000-000000000001",
        "a_text": 'naïve "text"',
        "a_bigint": "9007199254740993",
        "a_smallint": "-5",
        "an_integer": "7",
        "a_time": "2026-01-02 02:04:05.678+00",
        "a_jsonb": '{"a": [1, null]}',
        "a_bytea": "\\x00ff",
        "a_boolean": "t",
        "an_array": '{"a,b",NULL,"\\""}',
        "a_numeric": "12.3400",
        "a_mood": "happy",
        "a_null": None,
    }


async def test_replica_identities(database_url, kinds, read):
    """By default a change has the old key only if the key changed or the row was deleted; with identity full it has the
    old row."""
    async with read(stream_wal(database_url, PUBLICATION)) as log:
        await kinds.execute("insert into kinds (id, a_text) values (gen_random_uuid(), 'x')")
        await log.change()
        await kinds.execute("update kinds set a_text = 'y'")
        assert (await log.change()).old is None
        await kinds.execute("update kinds set id = '5f1b5c1e-0000-4000-8000-000000000001'")
        change = await log.change()
        assert change.old is not None
        assert list(change.old) == ["id"]
        await kinds.execute("alter table kinds replica identity full")
        await kinds.execute("update kinds set a_text = 'z'")
        change = await log.change()
        assert change.old is not None
        assert change.new is not None
        assert (change.old["a_text"], change.new["a_text"]) == ("y", "z")
        await kinds.execute("delete from kinds")
        change = await log.change()
        assert (change.kind, change.new) == ("DELETE", None)
        assert change.old is not None
        assert change.old["a_text"] == "z"


async def test_unchanged_large_values_are_marked(database_url, kinds, read):
    """A large value that an update does not touch is marked as unchanged."""
    await kinds.execute("alter table kinds alter a_text set storage external")
    async with read(stream_wal(database_url, PUBLICATION)) as log:
        await kinds.execute("insert into kinds (a_text) values (repeat('x', 10000))")
        await log.change()
        await kinds.execute("update kinds set a_bigint = 1")
        change = await log.change()
        assert change.new is not None
        assert change.new["a_text"] is UNCHANGED


async def test_a_truncation_is_streamed(database_url, kinds, read):
    """A truncation has its tables."""
    async with read(stream_wal(database_url, PUBLICATION)) as log:
        await kinds.execute("truncate kinds restart identity")
        while not isinstance(message := await log.next(), Truncate):
            pass
    assert [relation.table for relation in message.relations] == ["kinds"]
    assert (message.cascade, message.restart_identity) == (False, True)


async def test_ten_thousand_rows_in_order(database_url, kinds, read):
    """A large transaction comes whole and in order, in many batches."""
    async with read(stream_wal(database_url, PUBLICATION)) as log:
        await kinds.execute(
            "insert into kinds (a_bigint, a_text) select n, repeat('x', 500) from generate_series(1, 10000) n"
        )
        changes = [message for message in await log.until_commit() if isinstance(message, Change)]
    assert [int(str(change.new["a_bigint"])) for change in changes if change.new] == list(range(1, 10_001))


async def test_rolled_back_changes_are_not_streamed(database_url, kinds, read):
    """Only committed changes are streamed, in the order of their commits."""
    async with read(stream_wal(database_url, PUBLICATION)) as log, await connect(database_url) as other:
        await other.execute("insert into public.kinds (a_text) values ('second')")
        await kinds.execute("begin; insert into kinds (a_text) values ('never'); rollback")
        await kinds.execute("insert into kinds (a_text) values ('first')")
        await other.commit()
        changes = [await log.change(), await log.change()]
    assert [change.new["a_text"] for change in changes if change.new] == ["first", "second"]


async def test_an_altered_table_is_described_again(database_url, kinds, read):
    """Rows have a column once it was added."""
    async with read(stream_wal(database_url, PUBLICATION)) as log:
        await kinds.execute("insert into kinds default values")
        await log.change()
        await kinds.execute("alter table kinds add column later int; insert into kinds (later) values (1)")
        change = await log.change()
        assert change.new is not None
        assert change.new["later"] == "1"


async def test_a_restart_ends_the_stream(own_postgres, read):
    """The stream ends with the server, its slot is removed, and a new stream starts after the restart."""
    async with read(stream_wal(own_postgres.url(), PUBLICATION)) as log:
        stopping = asyncio.create_task(asyncio.to_thread(own_postgres.stop))
        with pytest.raises(psycopg.OperationalError):
            await log.next()  # Postgres stops only after the stream is read to its end.
        await stopping
        await asyncio.to_thread(own_postgres.start)
    async with await connect(own_postgres.url(), autocommit=True) as conn:
        cursor = await conn.execute("select count(*) as slots from pg_replication_slots")
        assert await cursor.fetchone() == {"slots": 0}
        async with read(stream_wal(own_postgres.url(), PUBLICATION)) as log:
            await conn.execute("insert into onsembl.agents (name, kind) values ('one', 'shell')")
            assert (await log.change()).relation.table == "agents"


async def test_the_received_position_is_reported(database_url, kinds, read, monkeypatch):
    """The received position is confirmed to the server, so that it may drop the log."""
    monkeypatch.setattr("onsembl.realtime.replication.wal_stream.STATUS_SECONDS", 0.05)
    async with read(stream_wal(database_url, PUBLICATION)) as log:
        await kinds.execute("insert into kinds (a_text) values ('x')")
        await log.until_commit()
        cursor = await kinds.execute("select pg_current_wal_lsn() as lsn")
        lsn = (await cursor.fetchone())["lsn"]
        reading = asyncio.create_task(log.next())
        try:
            confirmed = False
            async with asyncio.timeout(20):
                while not confirmed:
                    await asyncio.sleep(0.05)
                    cursor = await kinds.execute(
                        """select confirmed_flush_lsn >= %s::pg_lsn as confirmed from pg_replication_slots
                           where database = current_database()""",
                        [lsn],
                    )
                    confirmed = (await cursor.fetchone())["confirmed"]
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
