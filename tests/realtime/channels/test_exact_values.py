"""Changes exactly as Supabase Realtime sends them: right after DDL, and with values that JSON or the log lacks."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest
from psycopg import AsyncConnection
from support.cases import cases

from onsembl.realtime.replication import source
from onsembl.sql.database import connect

from .conftest import IMPATIENT, Wire, open_wire

SERIES = {"event": "*", "schema": "public", "table": "series"}
TABLE = """
    create table public.series (id bigint primary key, x integer);
    grant select on public.series to service_role;
    alter publication supabase_realtime add table public.series;
    insert into public.series values (1, 0);
"""
ROUNDS = [8, pytest.param(2500, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
"""How often the column gets each of the four types."""
TYPES = {
    "text": ("'abc' || {n}", "text", lambda n: f"abc{n}"),
    "boolean": ("{n} % 2 = 1", "bool", lambda n: n % 2 == 1),
    "jsonb": ("""'{{"n": {n}}}'""", "jsonb", lambda n: {"n": n}),
    "integer": ("{n}", "int4", lambda n: n),
}
"""Each type with an expression of it, its name, and the value of the expression."""


@pytest.fixture
async def impatient(serve_project: Any) -> AsyncGenerator[Any]:
    """A project that does not close a client that only listens."""
    async with serve_project(limits=replace(IMPATIENT, idle=math.inf)) as project:
        yield project


@pytest.fixture(params=["log", "outbox"])
async def series(request: pytest.FixtureRequest, impatient: Any, monkeypatch: Any) -> AsyncGenerator[Any]:
    """The owner's connection to a published table, of which changes arrive by the log or by the outbox."""
    if request.param == "outbox":

        async def not_the_log(_conn: object) -> str:
            return "the test says so"

        monkeypatch.setattr(source.realtime_outbox, "why_not_the_log", not_the_log)
    async with await connect(impatient.database_url, autocommit=True) as conn:
        await conn.execute(TABLE)
        yield conn


@pytest.mark.parametrize("rounds", ROUNDS)
async def test_a_change_right_after_ddl(impatient: Any, notes: Any, series: AsyncConnection[Any], rounds: int) -> None:
    """Each change has the type and the value that its column had in the change's transaction: malformed JSON, the
    values of another type or another type's name never come."""
    await notes.execute("grant select on notes to service_role")

    async def write() -> None:
        for n in range(rounds):
            for kind, (expression, _, _) in TYPES.items():
                value = expression.format(n=n)
                await asyncio.gather(
                    notes.execute("insert into notes (number) select 1 from generate_series(1, 10)"),
                    series.execute(
                        f"""begin; alter table series alter x type {kind} using ({value});
                            update series set id = id + 1, x = {value}; commit""".encode()
                    ),
                )

    async with open_wire(impatient.url, impatient.secret) as wire:
        await wire.subscribe(impatient.secret, SERIES, {**SERIES, "table": "notes"})
        writing = asyncio.create_task(write())
        for n in range(rounds):
            for _, name, value_of in TYPES.values():
                data = await next_of_series(wire)
                assert data["errors"] is None
                assert data["columns"] == [{"name": "id", "type": "int8"}, {"name": "x", "type": name}]
                assert data["record"]["x"] == value_of(n)
                assert type(data["record"]["x"]) is type(value_of(n))
        await writing


async def next_of_series(wire: Wire) -> Any:
    """The next change of the table `series`. A frame that is not JSON fails the test."""
    while (data := await wire.change())["table"] != "series":
        pass
    return data


async def test_columns_are_those_of_the_transaction(impatient: Any, series: AsyncConnection[Any]) -> None:
    """A new column comes with the first change after it, and a dropped or a renamed one does not come; in the outbox's
    mode, too."""
    async with open_wire(impatient.url, impatient.secret) as wire:
        await wire.subscribe(impatient.secret, SERIES)
        await series.execute("update series set x = 1")
        assert (await wire.change())["record"] == {"id": 1, "x": 1}
        await series.execute("begin; alter table series add y text default 'new'; update series set x = 2; commit")
        data = await wire.change()
        assert data["record"] == {"id": 1, "x": 2, "y": "new"}
        assert [column["name"] for column in data["columns"]] == ["id", "x", "y"]
        await series.execute("begin; alter table series drop x; update series set y = 'b'; commit")
        assert (await wire.change())["record"] == {"id": 1, "y": "b"}
        await series.execute("begin; alter table series rename y to z; update series set z = 'c'; commit")
        assert (await wire.change())["record"] == {"id": 1, "z": "c"}


@cases("identity", ["default", "full"])
async def test_values_that_json_or_the_log_lacks(impatient: Any, identity: str) -> None:
    """Bytes are hexadecimal digits, numbers that are not finite are null, and stored generated columns are there, of
    an update with the full replica identity, too, which Postgres 18 refuses unless they are published."""
    name = f"odd_{identity}"
    async with (
        await connect(impatient.database_url, autocommit=True) as conn,
        open_wire(impatient.url, impatient.secret) as wire,
    ):
        await conn.execute(
            f"""create table public.{name} (
                    id int primary key, data bytea, number numeric, half float4, whole float8, many float8[],
                    twice int generated always as (id * 2) stored);
                alter table public.{name} replica identity {identity};
                grant select on public.{name} to service_role;
                alter publication supabase_realtime add table public.{name}""".encode()
        )
        await wire.subscribe(impatient.secret, {"event": "*", "schema": "public", "table": name}, topic=name)
        await conn.execute(
            f"""insert into {name} values
                    (1, '\\x00ff', 'NaN', 'Infinity', '-Infinity', array['NaN', 'Infinity', 1]::float8[])""".encode()
        )
        values = {"data": "00ff", "number": None, "half": None, "whole": None, "many": ["NaN", "Infinity", 1]}
        data = await wire.change()
        assert data["record"] == {"id": 1, **values, "twice": 2}
        assert {column["name"] for column in data["columns"]} == data["record"].keys()
        await conn.execute(f"update {name} set id = 2".encode())
        data = await wire.change()
        assert data["record"] == {"id": 2, **values, "twice": 4}
        assert data["old_record"].items() >= {"id": 1}.items()
        assert json.dumps(data["old_record"]).count("NaN") == (1 if identity == "full" else 0)


async def test_the_size_of_a_row_is_that_of_its_bytes(impatient: Any, notes: Any) -> None:
    """A row whose values have too many bytes is too large, even if its characters are few."""
    await notes.execute("grant select on notes to service_role")
    async with open_wire(impatient.url, impatient.secret) as wire:
        await wire.subscribe(impatient.secret, {**SERIES, "table": "notes"})
        for text, errors in (("repeat('€', 400000)", ["Error 413: Payload Too Large"]), ("repeat('x', 400000)", None)):
            await notes.execute(f"insert into notes (text) values ({text})".encode())
            assert (await wire.change())["errors"] == errors
