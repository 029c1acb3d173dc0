"""The audit log's hash chain: verification finds each changed, missing and inserted row and names its place."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, timedelta

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.agents import until

from onsembl.fleet.audit_chain import MOST_FINDINGS, START, Verifier, chained, row_hash
from onsembl.fleet.audit_seal import seal_new_rows, verify
from onsembl.sql import audit, audit_chain
from onsembl.sql.audit import SYSTEM, Event
from onsembl.sql.database import Connection, connect

ROWS = st.lists(st.lists(st.text(), min_size=1, max_size=3), min_size=1, max_size=12)


def chain_of(rows: list[list[str]]) -> list[tuple[int, int, bytes, bytes]]:
    made, head = [], START
    for seq, row in enumerate(rows, 1):
        head = chained(head, row_hash(row))
        made.append((seq, 100 + seq, row_hash(row), head))
    return made


def walk(links, rows: list[list[str] | None], end: tuple[int, bytes]) -> Verifier:
    verifier = Verifier(0, START)
    for link, row in zip(links, rows, strict=True):
        verifier.link(*link, row, False)
    verifier.end(*end)
    return verifier


@given(ROWS, st.data())
def test_any_one_tampering_shows(rows: list[list[str]], data: st.DataObject):
    """Verification finds a changed row, a missing row, a missing link and a changed link."""
    links = chain_of(rows)
    end = links[-1][0], links[-1][3]
    assert walk(links, rows, end).wrong == 0
    at = data.draw(st.integers(0, len(rows) - 1))
    changed = [*rows[:at], [*rows[at], "more"], *rows[at + 1 :]]
    assert walk(links, changed, end).findings == [f"audit row {101 + at} was changed"]
    assert walk(links, [*rows[:at], None, *rows[at + 1 :]], end).findings == [f"audit row {101 + at} is missing"]
    assert walk([*links[:at], *links[at + 1 :]], [*rows[:at], *rows[at + 1 :]], end).wrong >= 1
    # A forger of one row's hash would have to compute all later hashes again, and would change every noted hash.
    forged = (*links[at][:2], row_hash(changed[at]), links[at][3])
    assert walk([*links[:at], forged, *links[at + 1 :]], changed, end).wrong >= 1


def test_findings_are_bounded_and_counted():
    """The number of stored findings is bounded, and all findings are counted."""
    verifier = Verifier(0, START)
    for number in range(MOST_FINDINGS + 50):
        verifier.unchained_row(number)
    assert (len(verifier.findings), verifier.wrong) == (MOST_FINDINGS, MOST_FINDINGS + 50)


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator[Connection]:
    """A connection as the database's owner, to a chain without sealed rows."""
    async with await connect(database_url, autocommit=True) as conn:
        yield conn


async def written(conn: Connection, *actions: str) -> list[int]:
    for action in actions:
        detail = {"é": [1, 2.5, None], "a": action}
        await audit.write(conn, Event(actor=SYSTEM, action="audit.exported", detail=detail))
    cursor = await conn.execute("select id from audit order by id desc limit %s", [len(actions)])
    return [row["id"] for row in await cursor.fetchall()][::-1]


async def sealed(conn: Connection, rows: int) -> None:
    """Seal until this many rows are sealed; transactions of other databases may hold the horizon back."""
    done = 0

    async def seal() -> bool:
        nonlocal done
        async with conn.transaction():
            done += await seal_new_rows(conn)
        return done >= rows

    await until(seal, f"{rows} rows sealed")
    assert done == rows


async def test_what_is_written_is_sealed_once_and_holds(conn: Connection):
    """The server's own role seals each new row once, and the chain verifies."""
    await conn.execute("set role onsembl_api")
    await written(conn, "one", "two", "three")
    await sealed(conn, 3)
    await written(conn, "four")
    await sealed(conn, 1)
    verifier = await verify(conn, frozenset())
    assert (verifier.checked, verifier.findings) == (4, [])


async def test_another_program_can_check_it(conn: Connection):
    """The documented rule suffices: SHA-256 over the previous hash and the hash of a compact JSON array of strings."""
    (id,) = await written(conn, "one")
    await sealed(conn, 1)
    row = await (await conn.execute("select * from audit")).fetchone()
    link = await (await conn.execute("select * from audit_chain")).fetchone()
    at = row["at"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    detail = '{"a": "one", "é": [1, 2.5, null]}'
    text = [str(id), at, "system", "", "system", "audit.exported", "", "", "", "ok", detail]
    digest = hashlib.sha256(json.dumps(text, ensure_ascii=False, separators=(",", ":")).encode()).digest()
    assert bytes(link["row_hash"]) == digest
    assert bytes(link["hash"]) == hashlib.sha256(bytes(32) + digest).digest()


async def test_a_row_that_is_committed_late_is_sealed_then(conn: Connection, database_url: str):
    """A row of a transaction that commits after later rows were sealed is sealed then, and delays no writer."""
    async with await connect(database_url) as late:
        await audit.write(late, Event(actor=SYSTEM, action="audit.exported"))
        await written(conn, "early")
        async with conn.transaction():
            assert await seal_new_rows(conn) == 0, "what is below the horizon is sealed, and no more"
        await late.commit()
    await sealed(conn, 2)
    verifier = await verify(conn, frozenset())
    assert (verifier.checked, verifier.findings) == (2, [])
    assert (await audit_chain.status(conn))["unsealed"] == 0


async def test_writers_and_sealers_at_once(database_url: str):
    """Concurrent writers and sealers put every row into the chain once, and the chain verifies."""

    async def write(count: int) -> None:
        async with await connect(database_url, role="onsembl_api") as conn:
            for number in range(count):
                async with conn.transaction(force_rollback=number % 7 == 0):
                    await audit.write(conn, Event(actor=SYSTEM, action="audit.exported"))

    async def seal(stop: asyncio.Event) -> None:
        async with await connect(database_url, role="onsembl_api", autocommit=True) as conn:
            while not stop.is_set():
                async with conn.transaction():
                    await seal_new_rows(conn)

    stop = asyncio.Event()
    sealing = [asyncio.create_task(seal(stop)) for _ in range(3)]
    await asyncio.gather(*(write(70) for _ in range(6)))
    stop.set()
    await asyncio.gather(*sealing)
    async with await connect(database_url, role="onsembl_api", autocommit=True) as conn:

        async def all_sealed() -> bool:
            async with conn.transaction():
                await seal_new_rows(conn)
            return (await audit_chain.status(conn))["unsealed"] == 0

        await until(all_sealed, "all to be sealed")
        verifier = await verify(conn, frozenset())
    assert (verifier.checked, verifier.findings) == (6 * 60, [])


async def tampered(conn: Connection, statement: str, *values: object) -> list[str]:
    """Run a statement as a superuser without triggers; return the findings."""
    await conn.execute("set session_replication_role = replica")
    await conn.execute(statement, list(values))
    await conn.execute("set session_replication_role = origin")
    return (await verify(conn, frozenset())).findings


async def test_each_tampering_is_named(conn: Connection):
    """Verification names a changed, a missing and an inserted row, and a broken link."""
    ids = await written(conn, "a", "b", "c", "d", "e")
    await sealed(conn, 5)
    assert await tampered(conn, "update audit set detail = '{}' where id = %s", ids[1]) == [
        f"audit row {ids[1]} was changed"
    ]
    assert (await tampered(conn, "delete from audit where id = %s", ids[2]))[1:] == [f"audit row {ids[2]} is missing"]
    found = await tampered(
        conn,
        """insert into audit (id, tx, actor_kind, action, outcome) overriding system value
           values (999, '1', 'system', 'never', 'ok')""",
    )
    assert found[-1] == "audit row 999 was put in, or its link was taken out"
    found = await tampered(conn, "update audit_chain set row_hash = hash where seq = 5")
    assert f"audit row {ids[4]} was changed" in found
    found = await tampered(conn, "delete from audit_chain where seq = 4")
    assert "links 4 to 4 of the chain are missing" in found
    found = await tampered(conn, "delete from audit_chain where seq = 5")
    assert "the chain ends at link 3 instead of link 5" in found


@pytest.mark.parametrize("column", ["id", "at", "tx"])
async def test_the_server_cannot_say_when_a_row_was_written(conn: Connection, column: str):
    """The server cannot set a row's id, time or transaction, so it cannot insert a row that no sealer reads."""
    await conn.execute("set role onsembl_api")
    values = {"id": "1", "at": "now()", "tx": "'1'"}
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await conn.execute(
            f"""insert into audit ({column}, actor_kind, action, outcome) overriding system value
                values ({values[column]}, 'system', 'never', 'ok')"""
        )


async def test_rows_put_in_where_no_sealer_looks_are_named(conn: Connection):
    """Verification names an inserted row with a used id or with a future transaction, and neither stops the sealer."""
    (first,) = await written(conn, "a")
    await sealed(conn, 1)
    again = (
        "insert into audit (id, at, tx, actor_kind, action, outcome) overriding system value"
        " values (%s, now() + interval '1 hour', %s::text::xid8, 'system', 'never', 'ok')"
    )
    assert await tampered(conn, again, first, "1") == [f"audit row {first} was put in, or its link was taken out"]
    found = await tampered(conn, again, 998, str(2**63 - 1))
    assert found[-1] == "audit row 998 was put in, or its link was taken out"
    await conn.execute(
        """insert into audit (id, actor_kind, action, outcome) overriding system value
           values (%s, 'system', 'never', 'ok')""",
        [first],
    )
    await written(conn, "b")
    await sealed(conn, 2)


async def as_restored(conn: Connection) -> None:
    """Change the rows to those of a dump from a cluster that has had more transactions."""
    ahead = "(({})::text::bigint + 1000000000)::text::xid8"
    await tampered(conn, f"update audit set tx = {ahead.format('tx')}")
    await conn.execute(f"update audit_seal set horizon = {ahead.format('horizon')}")


async def test_a_log_that_was_restored_in_another_cluster_goes_on(conn: Connection):
    """After a restore in another cluster all rows, sealed or not, get into the chain, and verification finds no
    inserted row."""
    await written(conn, "a", "b")
    await sealed(conn, 2)
    await written(conn, "not sealed when it was dumped")
    await as_restored(conn)
    assert (await verify(conn, frozenset())).findings == []
    await written(conn, "new")
    await sealed(conn, 2)
    await written(conn, "newer")
    # Later the cluster reaches the transaction ids of rows that are already sealed.
    come_to = "update audit set tx = (select horizon from audit_seal) where id = (select min(id) from audit)"
    await tampered(conn, come_to)
    await sealed(conn, 1)
    verifier = await verify(conn, frozenset())
    assert (verifier.checked, verifier.findings) == (5, [])
    assert (await audit_chain.status(conn))["unsealed"] == 0


async def test_a_chain_that_was_made_anew_lacks_what_was_noted(conn: Connection):
    """A chain that was computed again together with its log lacks a hash that was noted before."""
    await written(conn, "a", "b")
    await sealed(conn, 2)
    noted = (await audit_chain.status(conn))["hash"]
    assert (await verify(conn, frozenset([noted]))).findings == []
    await written(conn, "c")
    await sealed(conn, 1)
    assert (await verify(conn, frozenset([noted]))).findings == [], "it may lie further back"
    assert (await verify(conn, frozenset(["11" * 32]))).findings == [f"the hash {'11' * 32} is not in the chain"]


@pytest.mark.parametrize("statement", ["update audit set action = 'x'", "delete from audit", "truncate audit"])
@pytest.mark.parametrize("role", ["onsembl_api", None])
async def test_the_log_is_append_only(conn: Connection, statement: str, role: str | None):
    """Neither the server's role nor the owner changes or deletes rows, in the table or in a partition."""
    await written(conn, "a")
    if role is not None:
        await conn.execute(f"set role {role}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await conn.execute(statement)
    cursor = await conn.execute("select tableoid::regclass::text as part from audit")
    part = (await cursor.fetchone())["part"]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await conn.execute(statement.replace("audit", part, 1))


@pytest.mark.parametrize("order", [("old", "older", "new"), ("new", "old", "newer"), ("old",)])
async def test_days_past_their_time_are_dropped_and_the_chain_goes_on(conn: Connection, order: tuple[str, ...]):
    """Partitions older than the retention of at least 30 days are dropped whole, and the rest verifies from its anchor
    on, in any order of sealing."""
    day = timedelta(days=40)
    cursor = await conn.execute("select (now() - %s)::date as day", [day])
    old = (await cursor.fetchone())["day"]
    await conn.execute(
        f"create table audit_{old:%Y%m%d} partition of audit for values from ('{old}') to ('{old + timedelta(days=1)}')"
    )
    for action in order:
        ago = day if action.startswith("old") else timedelta()
        await conn.execute(
            "insert into audit (at, actor_kind, action, outcome) values (now() - %s::interval, 'system', %s, 'ok')",
            [ago, action],
        )
        await sealed(conn, 1)
    before = (await audit_chain.status(conn))["hash"]
    await conn.execute("set role onsembl_api")
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        await audit_chain.keep_partitions(conn, 7)
    assert await audit_chain.keep_partitions(conn, 30) == [f"audit_{old:%Y%m%d}"]
    assert (await verify(conn, frozenset([before]))).findings == []
    await written(conn, "later")
    await sealed(conn, 1)
    assert (await verify(conn, frozenset([before]))).findings == []
    assert await audit_chain.keep_partitions(conn, 30) == []
    cursor = await conn.execute("select count(*) as count from audit")
    assert (await cursor.fetchone())["count"] == 1 + sum(not action.startswith("old") for action in order)


async def test_partitions_are_made_ahead(conn: Connection):
    """Partitions exist from yesterday to a week from now, each with row-level security, so every writer finds its day's
    partition; one that is missing is made again."""
    await audit_chain.keep_partitions(conn, 30)  # the database may be of the day before
    cursor = await conn.execute(
        """select array_agg(right(c.relname, 8) order by c.relname) as days, bool_and(c.relrowsecurity) as secured,
                  (select array_agg(to_char(day, 'YYYYMMDD')) from generate_series(-1, 7) ahead,
                   lateral (select (now() at time zone 'UTC')::date + ahead) days(day)) as wanted
           from pg_inherits i join pg_class c on c.oid = i.inhrelid
           where i.inhparent = 'onsembl.audit'::regclass"""
    )
    row = await cursor.fetchone()
    assert row["days"][-9:] == row["wanted"]
    assert row["secured"]
    await conn.execute(f"drop table audit_{row['wanted'][-1]}")
    await audit_chain.keep_partitions(conn, 30)
    cursor = await conn.execute("select to_regclass(%s) is not null as found", [f"audit_{row['wanted'][-1]}"])
    assert (await cursor.fetchone())["found"]
