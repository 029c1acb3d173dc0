"""postgres_changes on the wire, over a real Postgres."""

from __future__ import annotations

from typing import Any

import pytest
from support.cases import cases

from .conftest import open_wire

ALL_NOTES = {"event": "*", "schema": "public", "table": "notes"}


@pytest.fixture
async def ann(impatient: Any) -> str:
    await impatient.operator("ann")
    return (await impatient.sign_in("ann"))["access_token"]


@pytest.fixture
async def bob(impatient: Any) -> str:
    await impatient.operator("bob")
    return (await impatient.sign_in("bob"))["access_token"]


async def test_the_log_is_read_from_the_first_client_on(impatient, notes, ann):
    """Without a client no replication slot exists; the first client's subscription makes the slots and gets the
    changes."""
    slots = "select count(*) as n from pg_replication_slots where database = current_database()"
    assert (await (await notes.execute(slots)).fetchone())["n"] == 0
    async with open_wire(impatient.url, impatient.key) as wire:
        await wire.subscribe(ann, ALL_NOTES)
        assert (await (await notes.execute(slots)).fetchone())["n"] > 0
        await notes.execute("insert into notes default values")
        assert (await wire.change())["type"] == "INSERT"


async def test_an_insert_an_update_and_a_delete_are_pushed(wire, notes, ann):
    """Each change has its columns, its rows as JSON and the ids of its subscriptions."""
    ids = await wire.subscribe(ann, ALL_NOTES)
    await notes.execute("insert into notes (text, number, tags) values ('hello', 1.50, '{a,null,\"b c\"}')")
    message = await wire.expect("postgres_changes")
    assert message["ids"] == ids
    data = message["data"]
    assert (data["type"], data["schema"], data["table"], data["errors"]) == ("INSERT", "public", "notes", None)
    assert data["columns"] == [
        {"name": "id", "type": "int8"},
        {"name": "owner", "type": "text"},
        {"name": "text", "type": "text"},
        {"name": "number", "type": "numeric"},
        {"name": "tags", "type": "_text"},
    ]
    assert data["record"] == {"id": 1, "owner": "ann", "text": "hello", "number": 1.5, "tags": ["a", None, "b c"]}
    assert "old_record" not in data
    assert data["commit_timestamp"].endswith("Z")

    await notes.execute("update notes set text = 'bye'")
    data = await wire.change()
    assert data["type"] == "UPDATE"
    assert data["record"]["text"] == "bye"
    assert data["old_record"] == {"id": 1}

    await notes.execute("delete from notes")
    data = await wire.change()
    assert data["type"] == "DELETE"
    assert data["old_record"] == {"id": 1}
    assert "record" not in data


async def test_row_level_security_decides_who_gets_a_change(impatient, notes, ann, bob):
    """Two operators with different rights get different rows; both get the key of a deletion."""
    async with open_wire(impatient.url, impatient.key) as one, open_wire(impatient.url, impatient.key) as two:
        await one.subscribe(ann, ALL_NOTES)
        await two.subscribe(bob, ALL_NOTES)
        await notes.execute("insert into notes (owner, text) values ('ann', '1'), ('bob', '2'), ('eve', '3')")
        await notes.execute("insert into notes (owner, text) values ('all', 'last')")
        assert [(await one.change())["record"]["text"] for _ in range(2)] == ["1", "last"]
        assert [(await two.change())["record"]["text"] for _ in range(2)] == ["2", "last"]
        await notes.execute("delete from notes where owner = 'eve'")
        assert (await one.change())["old_record"] == {"id": 3}
        assert (await two.change())["old_record"] == {"id": 3}


async def test_the_secret_key_sees_every_row_and_column(impatient, notes):
    """A subscriber with the role service_role gets every row and column."""
    await notes.execute("grant select on notes to service_role")
    async with open_wire(impatient.url, impatient.secret) as wire:
        await wire.subscribe(impatient.secret, ALL_NOTES)
        await notes.execute("insert into notes (owner, secret) values ('eve', 'key')")
        assert (await wire.change())["record"]["secret"] == "key"


async def test_a_role_without_the_key_gets_an_error(impatient, notes, ann):
    """Without a privilege on the primary key, a change has error 401 and no row."""
    await notes.execute("revoke select (id) on notes from authenticated")
    async with open_wire(impatient.url, impatient.key) as wire:
        await wire.subscribe(ann, ALL_NOTES)
        await notes.execute("insert into notes (text) values ('x')")
        data = await wire.change()
        assert data["errors"] == ["Error 401: Unauthorized"]
        assert data["record"] == {}


async def test_a_table_without_a_key_gives_an_error(impatient, notes, ann):
    """A change of a table without a primary key has error 400."""
    await notes.execute("create table public.loose (a int); grant select on loose to authenticated")
    await notes.execute("alter publication supabase_realtime add table loose")
    async with open_wire(impatient.url, impatient.key) as wire:
        await wire.subscribe(ann, {"event": "INSERT", "schema": "public", "table": "loose"})
        await notes.execute("insert into loose values (1)")
        assert (await wire.change())["errors"] == ["Error 400: Bad Request, no primary key"]


async def test_a_row_too_large_comes_without_its_large_values(impatient, notes, ann):
    """A row above a mebibyte has only its small values, and error 413."""
    async with open_wire(impatient.url, impatient.key) as wire:
        await wire.subscribe(ann, ALL_NOTES)
        await notes.execute("insert into notes (text) values (repeat('x', 1100000))")
        data = await wire.change()
        assert data["errors"] == ["Error 413: Payload Too Large"]
        assert data["record"] == {"id": 1, "owner": "ann", "number": None, "tags": None}


async def test_unchanged_large_values_are_left_out(impatient, notes, ann):
    """An update has no unchanged large value, unless the replica identity is full."""
    await notes.execute("alter table notes alter text set storage external")
    async with open_wire(impatient.url, impatient.key) as wire:
        await wire.subscribe(ann, ALL_NOTES)
        await notes.execute("insert into notes (text) values (repeat('x', 10000))")
        assert len((await wire.change())["record"]["text"]) == 10_000
        await notes.execute("update notes set number = 1")
        assert "text" not in (await wire.change())["record"]
        await notes.execute("alter table notes replica identity full")
        await notes.execute("update notes set number = 2")
        data = await wire.change()
        assert len(data["record"]["text"]) == 10_000
        assert data["old_record"]["number"] == 1
        await notes.execute("delete from notes")
        assert (await wire.change())["old_record"] == {"id": 1}  # With row-level security only the key.


async def test_full_old_rows_of_a_table_without_row_level_security(impatient, notes, ann):
    """Without row-level security, a deletion has all columns of the replica identity."""
    await notes.execute("alter table notes disable row level security")
    await notes.execute("alter table notes replica identity full")
    async with open_wire(impatient.url, impatient.key) as wire:
        await wire.subscribe(ann, ALL_NOTES)
        await notes.execute("insert into notes (owner, text, secret) values ('eve', 'x', 'y')")
        assert (await wire.change())["record"]["owner"] == "eve"
        await notes.execute("delete from notes")
        assert (await wire.change())["old_record"] == {
            "id": 1,
            "owner": "eve",
            "text": "x",
            "number": None,
            "tags": None,
        }


FILTERS = [
    ("number=eq.2", [2]),
    ("number=neq.2", [1, 3]),
    ("number=lt.2", [1]),
    ("number=lte.2", [1, 2]),
    ("number=gt.2", [3]),
    ("number=gte.2", [2, 3]),
    ("number=in.(1,3)", [1, 3]),
    ("number=not.in.(1,3)", [2]),
    ("text=like.%wo", [2]),
    ("text=ilike.T%", [2, 3]),
    ("text=match.^t[wh]", [2, 3]),
    ("text=imatch.^ONE", [1]),
    ("tags=is.null", [1, 2]),
    ("tags=not.is.null", [3]),
    ("number=isdistinct.2", [1, 3]),
    ("number=not.isdistinct.2", [2]),
    ("number=gt.1,text=eq.two", [2]),
    ('text=in.("one","x,y")', [1]),
    ('text=eq."three"', [3]),
    ("tags=eq.{a}", [3]),
]


@cases(("condition", "numbers"), FILTERS)
async def test_filters_choose_the_rows(impatient, notes, ann, condition, numbers):
    """Every operator compares as the column's type, and a comparison with the result null does not match."""
    async with open_wire(impatient.url, impatient.key) as wire:
        ids = await wire.subscribe(ann, {**ALL_NOTES, "filter": condition}, ALL_NOTES)
        await notes.execute(
            """insert into notes (number, text, tags)
               values (1, 'one', null), (2, 'two', null), (3, 'three', '{a}'), (null, null, null)"""
        )
        numbers_pushed = []
        for _ in range(4):
            message = await wire.expect("postgres_changes")
            if ids[0] in message["ids"]:
                numbers_pushed.append(message["data"]["record"]["number"])
        wanted = [*numbers, None] if condition in ("tags=is.null", "number=isdistinct.2") else numbers
        assert numbers_pushed == wanted


async def test_a_deletion_is_filtered_by_its_replica_identity(impatient, notes, ann):
    """Filters on columns outside the replica identity never match a deletion."""
    async with open_wire(impatient.url, impatient.key) as wire:
        by_text, by_id, every = await wire.subscribe(
            ann, {**ALL_NOTES, "filter": "text=eq.x"}, {**ALL_NOTES, "filter": "id=eq.1"}, ALL_NOTES
        )
        await notes.execute("insert into notes (text) values ('x')")
        assert (await wire.expect("postgres_changes"))["ids"] == [by_text, by_id, every]
        await notes.execute("delete from notes")
        assert (await wire.expect("postgres_changes"))["ids"] == [by_id, every]


async def test_selected_columns_come_with_the_key(impatient, notes, ann):
    """With `select`, a change has the selected columns and the key."""
    async with open_wire(impatient.url, impatient.key) as wire:
        await wire.subscribe(ann, {**ALL_NOTES, "select": ["text"]})
        await notes.execute("insert into notes (text, number) values ('x', 1)")
        data = await wire.change()
        assert data["record"] == {"id": 1, "text": "x"}
        assert [column["name"] for column in data["columns"]] == ["id", "text"]


WRONG = [
    (
        {"event": "*"},
        "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: "
        '%{"event" => "*"}',
    ),
    ({**ALL_NOTES, "filter": "text=foo.hey"}, 'Error parsing `filter` params: ["foo", "hey"]'),
    ({**ALL_NOTES, "filter": "undefined"}, 'Error parsing `filter` params: ["undefined"]'),
    (
        {**ALL_NOTES, "filter": "id=in.1,2"},
        "Error parsing `filter` params: `in` filter value must be wrapped by parentheses",
    ),
    (
        {"event": "INSERT", "schema": "public", "table": "nowhere"},
        "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect "
        "parameters: [event: INSERT, schema: public, table: nowhere, filters: [], select: nil]",
    ),
    (
        {**ALL_NOTES, "filter": "secret=eq.1"},
        "Unable to subscribe to changes with given parameters. An exception happened so please check your connect "
        'parameters: [event: *, schema: public, table: notes, filters: [{"secret", "eq", "1", false}], select: nil]. '
        "Exception: ERROR P0001 (raise_exception) invalid column for filter secret",
    ),
    (
        {**ALL_NOTES, "filter": "id=eq.x"},
        "Unable to subscribe to changes with given parameters. An exception happened so please check your connect "
        'parameters: [event: *, schema: public, table: notes, filters: [{"id", "eq", "x", false}], select: nil]. '
        'Exception: ERROR 22P02 (invalid_text_representation) invalid input syntax for type bigint: "x"',
    ),
    (
        {**ALL_NOTES, "filter": "text=eq.\0"},
        "Unable to subscribe to changes with given parameters. An exception happened so please check your connect "
        'parameters: [event: *, schema: public, table: notes, filters: [{"text", "eq", "\\u0000", false}], '
        "select: nil]. Exception: PostgreSQL text fields cannot contain NUL (0x00) bytes",
    ),
]


@cases(("params", "message"), WRONG)
async def test_wrong_parameters_give_an_error_and_the_channel_stays(impatient, notes, ann, params, message):
    """With wrong parameters the join succeeds, a system message has the error, and broadcasts work."""
    async with open_wire(impatient.url, impatient.key) as wire:
        reply = await wire.join("t", ann, postgres_changes=[params], broadcast={"self": True})
        assert reply["status"] == "ok"
        system = await wire.expect("system")
        assert system == {"extension": "postgres_changes", "status": "error", "message": message, "channel": "t"}
        await wire.send("realtime:t", "broadcast", {"type": "broadcast", "event": "e", "payload": {}})
        await wire.expect("broadcast")


async def test_a_join_can_wait_for_its_subscription(impatient, notes, ann):
    """With `wait`, the reply comes once the subscription delivers changes."""
    async with open_wire(impatient.url, impatient.key) as wire:
        reply = await wire.join("t", ann, postgres_changes=[ALL_NOTES], postgres_changes_options={"wait": True})
        assert reply["status"] == "ok"
        await notes.execute("insert into notes (text) values ('x')")
        assert (await wire.change())["record"]["text"] == "x"


@pytest.mark.parametrize("rows", [1_000, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_the_rows_of_one_transaction_come_in_order(impatient, notes, ann, rows):
    """A subscriber gets all rows of a large transaction in order."""
    async with open_wire(impatient.url, impatient.key) as wire:
        await wire.subscribe(ann, ALL_NOTES)
        await notes.execute(f"insert into notes (number) select n from generate_series(1, {rows}) n")
        assert [(await wire.change())["record"]["number"] for _ in range(rows)] == list(range(1, rows + 1))


async def test_revoked_privileges_apply_to_the_next_change(impatient, notes, ann):
    """The next change does not have a column whose privilege was revoked."""
    async with open_wire(impatient.url, impatient.key) as wire:
        await wire.subscribe(ann, ALL_NOTES)
        await notes.execute("insert into notes (text) values ('x')")
        assert "text" in (await wire.change())["record"]
        await notes.execute("revoke select (text) on notes from authenticated")
        await notes.execute("insert into notes (text) values ('x')")
        assert "text" not in (await wire.change())["record"]
