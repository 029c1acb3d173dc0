"""The outbox, compared with the write-ahead log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.realtime.replication.outbox import stream_outbox
from onsembl.realtime.replication.pgoutput import Change
from onsembl.realtime.replication.record import BadRecord, parse_record
from onsembl.realtime.replication.wal_stream import stream_wal
from onsembl.sql.database import connect
from onsembl.sql.realtime_changes import PUBLICATION

from .test_wal_stream import TABLE

STATEMENTS = [
    "insert into kinds (a_text, a_time, a_bytea, an_array) values ('a, \"b\" (c)', now(), '\\x00', '{1,null}')",
    "insert into kinds (a_text) values (''), (null)",
    "update kinds set a_numeric = 1.50 where a_text = ''",
    "update kinds set id = gen_random_uuid() where a_text = ''",
    "alter table kinds replica identity full; update kinds set a_boolean = true",
    "delete from kinds",
]


@pytest.fixture
async def kinds(database_url: str) -> Any:
    async with await connect(database_url, autocommit=True) as conn:
        await conn.execute(TABLE)
        yield conn


async def changes(log: Any, count: int) -> list[Change]:
    return [await log.change() for _ in range(count)]


def contents(change: Change) -> tuple[Any, ...]:
    return change.kind, change.relation.schema, change.relation.table, change.new, change.old


async def test_the_outbox_has_the_changes_of_the_log(database_url, kinds, read):
    """The outbox has the same changes, rows and old rows as the log, in the same order."""
    async with (
        read(stream_wal(database_url, PUBLICATION)) as log,
        read(stream_outbox(database_url, PUBLICATION)) as outbox,
    ):
        await kinds.execute("set timezone to 'Asia/Tokyo'; set datestyle to 'German'")
        for statement in STATEMENTS:
            await kinds.execute(statement)
            count = 3 if statement.startswith(("alter", "delete")) else statement.count("), (") + 1
            assert list(map(contents, await changes(outbox, count))) == list(map(contents, await changes(log, count)))


async def test_a_transaction_that_began_early_and_ends_late_is_not_missed(database_url, kinds, read):
    """A transaction with an early number that commits late is not missed."""
    async with read(stream_outbox(database_url, PUBLICATION)) as outbox, await connect(database_url) as late:
        await late.execute("insert into public.kinds (a_text) values ('late')")
        await kinds.execute("insert into kinds (a_text) values ('early')")
        assert (await outbox.change()).new["a_text"] == "early"
        await late.commit()
        assert (await outbox.change()).new["a_text"] == "late"


async def test_two_readers_get_everything(database_url, kinds, read):
    """Each of two readers gets every change."""
    async with (
        read(stream_outbox(database_url, PUBLICATION)) as one,
        read(stream_outbox(database_url, PUBLICATION)) as two,
    ):
        await kinds.execute("insert into kinds (a_bigint) select generate_series(1, 100)")
        for log in (one, two):
            assert len(await changes(log, 100)) == 100


async def test_upkeep_adds_triggers_to_new_tables(database_url, kinds, read, monkeypatch):
    """Changes of a table that is published later arrive, too."""
    monkeypatch.setattr("onsembl.realtime.replication.outbox.UPKEEP_SECONDS", 0.05)
    async with read(stream_outbox(database_url, PUBLICATION)) as outbox:
        await kinds.execute("create table public.later (id int primary key)")
        await kinds.execute("alter publication supabase_realtime add table public.later")
        change = None
        for n in range(10_000):
            await kinds.execute("insert into public.later values (%s); ", [n])
            await kinds.execute("insert into kinds default values")
            change = await outbox.change()
            if change.relation.table == "later":
                break
        assert change is not None
        assert change.relation.table == "later"


FIELD = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.lists(FIELD, min_size=1))
def test_records_are_parsed_as_postgres_writes_them(values):
    """Quotes and backslashes are doubled in a record, as Postgres does."""

    def written(value: str | None) -> str:
        if value is None:
            return ""
        return '"' + value.replace("\\", "\\\\").replace('"', '""') + '"'

    if len(values) == 1 and values[0] is None:
        return  # Postgres writes () for a row of one null, which is ambiguous.
    assert parse_record("(" + ",".join(map(written, values)) + ")") == values


@pytest.mark.parametrize("text", ["", "(", "x", '("a)', "(a"])
def test_text_that_is_no_record_is_rejected(text):
    """Text without parentheses or with open quotes is rejected."""
    with pytest.raises(BadRecord):
        parse_record(text)
