"""Realtime shows a browser what the REST API shows to the same person: by table, role and column."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from typing import Any

import pytest
from support.published_rows import PUBLISHED_ROWS
from support.server import Api, running

from onsembl.api import settings as api_settings
from onsembl.api.settings import Settings
from onsembl.protocol.states import Role
from onsembl.realtime.channels.limits import RealtimeLimits
from onsembl.sql import supabase_setup
from onsembl.sql.database import connect
from onsembl.sql.published_tables import EVERY_PUBLISHED

from .channels.conftest import Wire, open_wire

EVERYTHING = {"event": "*", "schema": "onsembl", "table": "*"}
NOT_IN_REST = {"turn_progress": {"updated_at"}}
"""Columns that only Realtime shows: when a turn was last followed."""


@pytest.fixture
async def api(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server whose Realtime rejects without a pause and does not close sockets that are not signed in."""
    monkeypatch.setattr(api_settings, "RealtimeLimits", partial(RealtimeLimits, join_error_backoff=0.0))
    monkeypatch.setattr(api_settings, "FIRST_MESSAGE_SECONDS", 3600.0)
    async with running(Settings(database_url=database_url, public_url="", worker=None)) as api:
        yield api


async def execute(api: Api, *statements: str) -> list[Any]:
    """Execute the statements, each in a transaction; return the rows of the last one."""
    async with await connect(api.database_url, autocommit=True) as conn:
        for statement in statements:
            cursor = await conn.execute(statement.encode())
        return await cursor.fetchall() if cursor.description else []


async def columns_of_all_tables(api: Api) -> dict[str, set[str]]:
    rows = await execute(
        api,
        """select c.relname as name, array_agg(a.attname::text) as columns
           from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
           where c.relnamespace = 'onsembl'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
           group by c.relname""",
    )
    return {row["name"]: set(row["columns"]) for row in rows}


async def rest_rows(api: Api, token: str) -> dict[str, dict[str, Any] | None]:
    """The row of each published table as the REST API shows it to the holder of the token; None where it does not."""

    async def read(path: str, *keys: str | int) -> Any:
        response = await api.http.get(path, headers={"Authorization": f"Bearer {token}"})
        assert response.status_code in (200, 401, 403), response.text
        answer = response.json() if response.status_code == 200 else None
        for key in keys:
            answer = answer[key] if answer is not None else None
        return answer

    command = await read("/v1/commands", "commands", 0)
    step = None if command is None else await read(f"/v1/commands/{command['id']}/steps", "steps", 0)
    request_of_agent = await read("/v1/attention", "requests", 0)
    request = await read("/v1/device/requests", "requests", 0)
    return {
        "agents": await read("/v1/agents", "agents", 0),
        "alerts": await read("/v1/alerts", "alerts", 0),
        # What is asked can be long: the page reads it by REST.
        "attention": request_of_agent and {name: value for name, value in request_of_agent.items() if name != "body"},
        "commands": command,
        "conversations": await read("/v1/conversations", "conversations", 0),
        # REST shows the code as people compare it.
        "device_requests": request and {**request, "user_code": request["user_code"].replace("-", "")},
        "halt_agents": await read("/v1/halt", "agents", 0),
        "halts": await read("/v1/halt", "halt"),
        "reports": await read("/v1/reports", "reports", 0),
        "schedules": await read("/v1/schedules", "schedules", 0),
        "turn_progress": step
        and {**step, "command_id": command["id"], "agent_id": command["agent_id"], "steps": step["number"]},
    }


def comparable(value: Any) -> Any:
    """The value, with times as such: REST and Realtime write the zone differently."""
    if isinstance(value, str) and "T" in value:
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return value
    return value


MARK = "insert into onsembl.alerts (kind, text) values ('agent_offline', 'done')"
DELETES = [
    f"delete from onsembl.{name}" for name in ("schedules", "device_requests", "halts", "alerts", "commands", "agents")
]


GENERATED = {("prices", "id")}
"""The columns that Postgres alone may write."""


def updates(tables: dict[str, set[str]]) -> list[str]:
    """Updates of each row of each table that change no value; the audit log can only grow."""
    changed: dict[str, str] = {}
    for name in tables.keys() - {"audit"}:
        columns = {column for column in tables[name] if (name, column) not in GENERATED}
        changed[name] = min(columns & {"id", "at", "name", "agent_id", "instance_id"} or columns)
    return [f'update onsembl.{name} set "{column}" = "{column}"' for name, column in changed.items()]


async def changes_by(api: Api, wires: Iterable[Wire], statements: list[str]) -> list[list[dict[str, Any]]]:
    """Execute the statements; return the changes that each of the wires has got then."""
    await execute(api, *statements, MARK)
    by_wire: list[list[dict[str, Any]]] = []
    for wire in wires:
        found = [await wire.change()]
        while found[-1].get("record", {}).get("text") != "done":
            found.append(await wire.change())
        by_wire.append(found[:-1])
    return by_wire


async def test_realtime_shows_what_rest_shows(api: Api) -> None:
    """To each role, Realtime shows the same rows as REST, with the same columns and values. Of other tables and of rows
    for another role, and to somebody without a role, it tells nothing, not even of a deletion."""
    await execute(api, PUBLISHED_ROWS)
    tables = await columns_of_all_tables(api)
    tokens = {str(role): (await api.operator(role)).access_token for role in Role}
    tokens["none"] = (await api.operator(Role.VIEWER, "former")).access_token
    await execute(api, "update auth.users set app_metadata = '{}' where email = 'former@example.org'")
    rest = {role: await rest_rows(api, token) for role, token in tokens.items()}
    assert not any(rest["none"].values())
    assert all(rest["admin"].values())
    assert [name for name, row in rest["viewer"].items() if row is None] == ["device_requests"]
    async with AsyncExitStack() as stack:
        wires = {role: await stack.enter_async_context(open_wire(api.url, await api.key())) for role in tokens}
        for role, wire in wires.items():
            await wire.subscribe(tokens[role], EVERYTHING)
        of_operators = [wires[role] for role in Role]
        seen = [
            # Row-level security is checked on the present row, so the rows must not be gone yet.
            [*updated, *deleted]
            for updated, deleted in zip(
                await changes_by(api, of_operators, updates(tables)),
                await changes_by(api, of_operators, DELETES),
                strict=True,
            )
        ]
        assert [frame for frame in await wires["none"].flush() if frame[3] == "postgres_changes"] == []
    for role, found in zip(map(str, Role), seen, strict=True):
        updated = {change["table"]: change for change in found if change["type"] == "UPDATE"}
        deleted = {change["table"]: change["old_record"] for change in found if change["type"] == "DELETE"}
        assert updated.keys() == deleted.keys() == {name for name, row in rest[role].items() if row is not None}, role
        for name, change in updated.items():
            row, record = rest[role][name], change["record"]
            assert row is not None
            assert record.keys() == row.keys() & tables[name] | NOT_IN_REST.get(name, set()), (role, name)
            assert {column["name"] for column in change["columns"]} == record.keys()
            for column in record.keys() & row.keys():
                assert comparable(record[column]) == comparable(row[column]), (role, name, column)
            assert deleted[name].keys() <= {"id", "command_id"}, (role, name)


async def test_the_list_of_tables_is_that_of_the_database(api: Api) -> None:
    """The migrations publish the tables of the list and no others, with the grants and policies that `onsembl supabase
    check` looks for; `onsembl supabase setup` finds nothing to do."""
    async with await connect(api.database_url) as conn:
        assert await supabase_setup.published(conn) == set(EVERY_PUBLISHED)
        listed = {name: set(table.columns) for name, table in EVERY_PUBLISHED.items()}
        assert await supabase_setup.readable(conn) == listed
        assert await supabase_setup.missing_grants(conn) == await supabase_setup.excess_grants(conn) == set()
        assert await supabase_setup.without_read_policy(conn) == await supabase_setup.unprotected(conn) == set()
        assert await supabase_setup.has_channel_policy(conn)
        assert await supabase_setup.ensure_published(conn) == await supabase_setup.ensure_granted(conn) == []
        assert await supabase_setup.ensure_read_policies(conn) == []
        assert not await supabase_setup.ensure_channel_policy(conn)


async def test_who_is_not_signed_in_is_told_nothing_and_no_operator_filters_by_patterns(api: Api) -> None:
    """With the public key alone, no channel can be joined: neither the page's nor another. A regular expression, whose
    time has no bound, is rejected from every operator."""
    await execute(api, PUBLISHED_ROWS)
    async with open_wire(api.url, await api.key()) as wire:
        for topic, private in (("onsembl-fleet-1", True), ("room", False), ("room", True)):
            reply = await wire.join(topic, postgres_changes=[EVERYTHING], private=private)
            assert reply["response"]["reason"].startswith("Unauthorized: "), topic
        await execute(api, "update onsembl.agents set name = name")
        assert await wire.flush() == []
        for role in Role:
            filtered = {"event": "*", "schema": "onsembl", "table": "agents", "filter": "name=match.^(a+)+$"}
            await wire.join(role, (await api.operator(role)).access_token, postgres_changes=[filtered])
            system = await wire.expect("system", f"realtime:{role}")
            assert system["message"].endswith("only with the secret key")


async def test_a_former_operator_is_told_nothing_at_once(api: Api) -> None:
    """Who was told of deletions a moment ago is told of none after losing the role: the socket is closed, and on a new
    one the same token shows nothing."""
    admin = (await api.operator()).access_token
    former = (await api.operator(Role.VIEWER)).access_token
    async with open_wire(api.url, await api.key()) as watching:
        await watching.subscribe(admin, EVERYTHING)
        async with open_wire(api.url, await api.key()) as wire:
            await wire.subscribe(former, EVERYTHING)
            await changes_by(api, [watching, wire], [MARK, "delete from onsembl.alerts"])
            await execute(api, "update auth.users set app_metadata = '{}' where email = 'viewer@example.org'")
            await wire.connection.wait_closed()
        async with open_wire(api.url, await api.key()) as wire:
            await wire.subscribe(former, EVERYTHING)
            await changes_by(api, [watching], ["delete from onsembl.alerts", MARK])
            assert [frame[3] for frame in await wire.flush() if frame[3] == "postgres_changes"] == []
