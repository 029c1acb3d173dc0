"""The outbox, held against the log: both tell the same."""

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


def told(change: Change) -> tuple[Any, ...]:
    return change.kind, change.relation.schema, change.relation.table, change.new, change.old


async def test_the_outbox_tells_what_the_log_tells(database_url, kinds, read):
    """The same changes, rows and old rows, in the same order."""
    async with (
        read(stream_wal(database_url, PUBLICATION)) as log,
        read(stream_outbox(database_url, PUBLICATION)) as box,
    ):
        await kinds.execute("set timezone to 'Asia/Tokyo'; set datestyle to 'German'")
        for statement in STATEMENTS:
            await kinds.execute(statement)
            count = 3 if statement.startswith(("alter", "delete")) else statement.count("), (") + 1
            assert list(map(told, await changes(box, count))) == list(map(told, await changes(log, count)))


async def test_a_transaction_that_began_early_and_ends_late_is_not_missed(database_url, kinds, read):
    """Numbers are given out in another order than that of the commits."""
    async with read(stream_outbox(database_url, PUBLICATION)) as box, await connect(database_url) as late:
        await late.execute("insert into public.kinds (a_text) values ('late')")
        await kinds.execute("insert into kinds (a_text) values ('early')")
        assert (await box.change()).new["a_text"] == "early"
        await late.commit()
        assert (await box.change()).new["a_text"] == "late"


async def test_two_readers_are_told_everything(database_url, kinds, read):
    """Reading takes nothing from others."""
    async with (
        read(stream_outbox(database_url, PUBLICATION)) as one,
        read(stream_outbox(database_url, PUBLICATION)) as two,
    ):
        await kinds.execute("insert into kinds (a_bigint) select generate_series(1, 100)")
        for log in (one, two):
            assert len(await changes(log, 100)) == 100


async def test_upkeep_puts_triggers_on_new_tables(database_url, kinds, read, monkeypatch):
    """A table that is published later is told of, too."""
    monkeypatch.setattr("onsembl.realtime.replication.outbox.UPKEEP_SECONDS", 0.05)
    async with read(stream_outbox(database_url, PUBLICATION)) as box:
        await kinds.execute("create table public.later (id int primary key)")
        await kinds.execute("alter publication supabase_realtime add table public.later")
        change = None
        for n in range(10_000):
            await kinds.execute("insert into public.later values (%s); ", [n])
            await kinds.execute("insert into kinds default values")
            change = await box.change()
            if change.relation.table == "later":
                break
        assert change is not None
        assert change.relation.table == "later"


FIELD = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.lists(FIELD, min_size=1))
def test_records_are_read_as_they_are_written(values):
    """Quotes and backslashes doubled, as Postgres does."""

    def written(value: str | None) -> str:
        if value is None:
            return ""
        return '"' + value.replace("\\", "\\\\").replace('"', '""') + '"'

    if len(values) == 1 and values[0] is None:
        return  # Postgres writes () for a row of one null, and so is it read
    assert parse_record("(" + ",".join(map(written, values)) + ")") == values


@pytest.mark.parametrize("text", ["", "(", "x", '("a)', "(a"])
def test_other_text_is_refused(text):
    """A record has its parentheses and closed quotes."""
    with pytest.raises(BadRecord):
        parse_record(text)
