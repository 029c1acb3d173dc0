"""One row never breaks a list: what an answer cannot show is an error in its place, counted and an alert."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.agents import Operator, until
from support.api_calls import call_api
from support.rest_examples import Objects
from support.server import running

from onsembl.api.http.openapi import document
from onsembl.fleet.json_rows import to_json
from onsembl.sql.database import connect
from onsembl.sql.readable_values import UnreadableTime, UnreadableValue

pytestmark = pytest.mark.no_worker

HUGE = "1" + "0" * 30
DIGITS = "1" + "0" * 5000
"""An integer that Python refuses to read."""
DEEP = "[" * 900 + "]" * 900
DEEPER = "[" * 3000 + "]" * 3000
HOSTILE_JSON = f'{{"huge": {HUGE}, "deep": {DEEP}, "kept": 1}}'

ROWS = (
    """update agents set created_at = 'infinity', limits = %(json)s, connected_at = '-infinity', status = 'online',
           limited_since = '-infinity', limited_until = 'infinity'
       where id = %(agent)s""",
    """insert into event_outbox (kind, agent_id, at, detail) values
           ('agent.status', %(agent)s, 'infinity', %(json)s), ('attention.asked', %(agent)s, now(), %(deeper)s)""",
    """update commands set started_at = '12000-01-01', limits = %(json)s, usage = %(deeper)s, cancel_step = %(digits)s,
           position = 'nan', created_at = 'infinity'
       where id = %(command)s""",
    """update command_groups set target = %(json)s, limits = %(digits)s, created_at = 'infinity'
       where id = %(group)s""",
    """update presets set variables = '[{"name": "n", "type": "integer", "default": 1e40}]', limits = %(json)s,
           updated_at = 'infinity'
       where name = %(preset)s""",
    """update schedules set target = %(json)s, "values" = %(deeper)s, limits = %(digits)s, next_at = 'infinity',
           created_at = '-infinity'
       where id = %(schedule)s""",
    "insert into schedule_runs (schedule_id, due_at, ran_at) values (%(schedule)s, 'infinity', '0044-03-15 BC')",
    "insert into halts (seconds, requested_by_name, at) values ('infinity', '', '12000-01-01')",
    """insert into audit (actor_kind, actor_name, action, target_kind, target_id, outcome, address, detail)
       values ('system', 'x', 'job.retried', '', '', 'ok', '', %(json)s),
              ('system', 'x', 'job.retried', '', '', 'ok', '', %(deeper)s)""",
    "insert into alerts (kind, text, at) values ('refresh_token_reused', 'x', 'infinity')",
    "update device_requests set created_at = '-infinity', decided_at = 'infinity' where id = %(request)s",
    "update enrolment_tokens set expires_at = 'infinity', created_at = '-infinity' where id = %(token)s",
    "update streams set created_at = '12000-01-01' where id = %(stream)s",
    "insert into stream_sizes (stream_id, start, at, columns, rows) values (%(stream)s, 0, 'infinity', 80, 24)",
    """insert into procrastinate_jobs (queue_name, task_name, args, status, scheduled_at)
       values ('default', 'task', '{"command_id": "no uuid"}', 'todo', 'infinity')""",
    """update conversations set created_at = 'infinity', active_at = '-infinity'
       where id = %(conversation)s""",
    """update steps set started_at = 'infinity', ended_at = '12000-01-01', cost_usd = 'nan'
       where command_id = %(stepped)s""",
    """update attention set asked_at = 'infinity', body = %(deeper)s, decision = %(json)s, closed_at = '12000-01-01'
       where id = %(attention)s""",
    """update reports set created_at = 'infinity', severities = %(json)s, report = %(deeper)s, pinned_at = '12000-01-01'
       where id = %(report)s""",
    "insert into procrastinate_workers (last_heartbeat) values ('infinity')",
)
LISTS = {
    "/v1/agents": ("agents", 3),
    "/v1/commands": ("commands", 2),
    "/v1/groups": ("groups", 2),
    "/v1/presets": ("presets", 5),
    "/v1/schedules": ("schedules", 2),
    "/v1/alerts": ("alerts", 2),
    "/v1/device/requests": ("requests", 2),
    "/v1/enrolment-tokens": ("tokens", 2),
    "/v1/conversations": ("conversations", 2),
    "/v1/reports": ("reports", 2),
    "/v1/attention": ("requests", 2),
    "/v1/events": ("events", 4),
    "/v1/jobs": ("jobs", 2),
    "/v1/jobs/workers": ("workers", 1),
    "/v1/audit": ("events", 4),
}
"""Each list, the name of its rows, and the least number of them."""


async def test_a_row_with_hostile_values_breaks_no_list(api):
    """Each list and export answers with every row; an unreadable value is an error in its place, counted, and raises
    one alert."""
    operator = Operator(api, await api.operator())
    account = await api.operator()
    objects = Objects(api, account, "")
    ids: dict[str, Any] = {}
    for name in (
        *("agent", "command", "group", "schedule", "stream", "alert", "request", "token", "job", "conversation"),
        *("report", "attention"),
    ):
        for _ in range(2):  # the second of each row is hostile, the first has to be shown whole
            ids[name] = await objects.path_value("", f"{name}_id")
            ids["preset"] = await objects.path_value("", "name")
            ids["stepped"] = await objects.path_value("readStep", "command_id")
    whole = {path: await call_api(operator, "GET", path) for path in LISTS}
    async with await connect(api.database_url) as conn:
        deeper, digits = f'{{"deeper": {DEEPER}}}', f'{{"digits": {DIGITS}}}'
        for statement in ROWS:
            await conn.execute(statement.encode(), {**ids, "json": HOSTILE_JSON, "deeper": deeper, "digits": digits})
    for path, (name, least) in LISTS.items():
        rows = (await call_api(operator, "GET", path))[name]
        before = {_key(row): row for row in whole[path][name]}
        assert len(rows) >= max(least, len(before)), path
        assert "unreadable: " in json.dumps(rows), path
        kept = [row for row in rows if before.get(_key(row)) == row]
        assert kept or path == "/v1/jobs/workers", f"{path}: the other rows are whole"
    for path in (*every_readable_path(ids), f"/v1/commands/{ids['stepped']}/steps"):
        response = await api.http.get(path, headers=operator.headers)
        assert response.status_code in (200, 404, 409), (path, response.text)
    lines = (await api.http.get("/v1/audit/export", headers=operator.headers)).text.splitlines()
    assert [json.loads(line)["detail"] for line in lines if '"deeper"' in line or "too deep" in line]
    assert "unreadable: an integer beyond 64 bits" in "".join(lines)
    table = (await api.http.get("/v1/audit/export?format=csv", headers=operator.headers)).text
    assert len(list(csv.reader(io.StringIO(table)))) == len(lines) + 1 + 1, "a head, and the first export's own row"
    metrics = (await api.http.get("/metrics")).text
    assert 'onsembl_unreadable_values_total{endpoint="GET /v1/commands"}' in metrics
    await api.services.unreadable.write()
    await api.services.unreadable.write()
    alerts = [row["text"] for row in (await call_api(operator, "GET", "/v1/alerts"))["alerts"]]
    faults = [text for text in alerts if text.startswith("GET /v1/commands cannot show started_at of")]
    fault = "the time 12000-01-01 00:00:00+00 is out of range"
    assert faults == [f"GET /v1/commands cannot show started_at of {ids['command']}: {fault}."]


async def test_a_write_of_alerts_that_is_cancelled_loses_none(api):
    """The alerts of a write that was cancelled while it waited for the database are written by the next one, which
    begins when it is over."""
    unreadable = api.services.unreadable
    unreadable.record("GET /v1/agents", "created_at of one")
    async with await connect(api.database_url) as conn, await connect(api.database_url, autocommit=True) as watching:
        await conn.execute("lock table alerts in exclusive mode")
        under_way = asyncio.create_task(unreadable.write())

        async def waits() -> bool:
            cursor = await watching.execute(
                "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            )
            return await cursor.fetchone() is not None

        await until(waits, "the write waits for the table")
        after = asyncio.create_task(unreadable.write())
        under_way.cancel()
        await asyncio.wait([under_way])
        await conn.commit()
        await after
    rows = (await call_api(Operator(api, await api.operator()), "GET", "/v1/alerts"))["alerts"]
    assert [row["text"] for row in rows] == ["GET /v1/agents cannot show created_at of one."]


async def test_a_missing_guard_is_seen(settings, monkeypatch):
    """Without the loaders of unreadable values, one row breaks its list."""
    monkeypatch.setattr("onsembl.sql.database.load_every_value", lambda _: None)
    async with running(settings) as api:
        operator = Operator(api, await api.operator())
        await api.enrol()
        async with await connect(api.database_url) as conn:
            await conn.execute("update agents set created_at = 'infinity'")
        with pytest.raises(AssertionError):
            await call_api(operator, "GET", "/v1/agents")


def _key(row: dict[str, Any]) -> object:
    return row.get("id", row.get("name", row.get("position")))


def every_readable_path(ids: dict[str, Any]) -> list[str]:
    """The paths of the operations that read, with the ids of hostile rows."""
    values = {f"{name}_id": value for name, value in ids.items()} | {
        "name": ids["preset"],
        "user_code": "x",
        "number": "1",
    }
    query = {"/v1/schedules/times": "?cron=*+*+*+*+*", "/v1/search": "?q=ls", "/v1/streams/{stream_id}/modes": "?at=0"}
    return [
        path.format(**values) + query.get(path, "")
        for path, methods in document()["paths"].items()
        if "get" in methods and not path.startswith("/v1/agent/")  # which is for agents
    ]


NESTED = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(2**63, 2**70),
        st.floats(),
        st.text(st.characters(), max_size=20),
        st.just("\ud800"),
        st.builds(uuid4),
        st.just(UnreadableTime.of("infinity")),
        st.just(UnreadableValue("why")),
        st.just(UUID),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=10,
)


@given(NESTED)
def test_every_value_is_written(value):
    """Whatever a row holds, the writer's output is JSON, and the values that JSON can hold are unchanged."""
    faults: list[str] = []
    written = json.loads(to_json({"id": 7, "value": value, "kept": [1, "a"]}, faults.append))
    assert written["kept"] == [1, "a"]
    assert ("unreadable: " in json.dumps(written)) == bool(faults)
    assert all(" of 7: " in fault for fault in faults) or "id" in json.dumps(written["value"])


def test_a_value_that_is_nested_too_deep_is_written():
    """A list of lists is shown down to a depth, and an error stands in its place below."""
    deep: Any = None
    for _ in range(5000):
        deep = [deep]
    faults: list[str] = []
    json.loads(to_json([{"id": 1, "deep": deep}, {"id": 2}], faults.append))
    assert len(faults) == 1
    assert faults[0].startswith("deep[")
