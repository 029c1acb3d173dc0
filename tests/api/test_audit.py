"""The audit log over the API: filters, pages, exports, the chain, alerts."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.agents import until
from support.cases import cases
from support.frames import HELLO_TEXT, close_code
from support.server import running
from websockets.exceptions import InvalidStatus

from onsembl.fleet import audit_export
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.enrolment import GRANT_TYPE
from onsembl.protocol.states import Role
from onsembl.sql import audit, audit_log
from onsembl.sql.audit import Actor, Event
from onsembl.sql.database import connect
from onsembl.tasks.worker import WorkerSettings

pytestmark = pytest.mark.no_worker


async def logged(api, *events: Event) -> None:
    async with await connect(api.database_url, role="onsembl_api") as conn:
        for event in events:
            await audit.write(conn, event)


async def read(api, headers, **query) -> dict:
    answer = await api.http.get("/v1/audit", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
async def admin(api) -> dict:
    return (await api.operator()).headers


async def test_only_an_admin_reads_the_log(api):
    """Only an admin reads the audit log, which has the addresses and actions of all users."""
    for role in (Role.VIEWER, Role.OPERATOR):
        headers = (await api.operator(role)).headers
        for path in ("/v1/audit", "/v1/audit/export", "/v1/audit/chain"):
            assert (await api.http.get(path, headers=headers)).status_code == 403


async def test_each_filter_narrows_and_all_combine(api, admin):
    """Filters by actor, action, target, outcome, address, time and text each narrow the log, and they combine."""
    ada = Actor("operator", name="ada@example.org", address="203.0.113.7")
    await logged(
        api,
        Event(actor=ada, action="command.requested", target_kind="command", target_id="t-1", detail={"x": "50%_\\"}),
        Event(actor=ada, action="command.ended", target_kind="command", target_id="t-1", outcome="failed"),
        Event(actor=Actor("agent", name="one"), action="agent.refresh", outcome="refused"),
    )

    async def actions(**query) -> list[str]:
        found = [event["action"] for event in (await read(api, admin, **query))["events"]]
        return [action for action in found if not action.startswith("operator.")]

    assert await actions() == ["agent.refresh", "command.ended", "command.requested"]
    assert await actions(actor="ada@") == ["command.ended", "command.requested"]
    assert await actions(action="command.") == ["command.ended", "command.requested"]
    assert await actions(action="command.ended") == ["command.ended"]
    assert await actions(target="t-1", outcome="failed") == ["command.ended"]
    assert await actions(address="203.0.113.7", text="50%_\\") == ["command.requested"]
    assert await actions(text="5_%") == [], "a wildcard is a character like any other"
    soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    assert await actions(since=soon) == []
    assert len(await actions(until=soon)) == 3
    me = (await api.http.get("/v1/me", headers=admin)).json()["id"]
    assert {event["action"] for event in (await read(api, admin, actor=me))["events"]} == {"operator.sign_in"}


@cases("query", [{"since": "yesterday"}, {"since": "2026-01-31T12:00:00"}, {"limit": 501}, {"outcome": "maybe"}])
async def test_a_filter_that_makes_no_sense_is_refused(api, admin, query):
    """An invalid filter answers 400 with the reason."""
    answer = await api.http.get("/v1/audit", params=query, headers=admin)
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")


async def test_pages_follow_each_other(api, admin):
    """Pages follow each other, newest entry first, and each entry is on one page."""
    await logged(api, *(Event(actor=audit.SYSTEM, action="audit.dropped", target_id=str(n)) for n in range(7)))
    seen, before = [], {}
    while True:
        page = await read(api, admin, action="audit.dropped", limit=3, **before)
        seen += [event["target_id"] for event in page["events"]]
        if page["next_before"] is None:
            break
        before = {"before": page["next_before"]}
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]


@pytest.mark.parametrize("format", ["jsonl", "csv"])
async def test_an_export_has_every_row_and_is_itself_logged(api, admin, format):
    """An export has every entry, oldest first, with spreadsheet formulas escaped, and is itself in the audit log."""
    evil = "=HYPERLINK(1)"
    await logged(api, *(Event(actor=audit.SYSTEM, action="audit.dropped", target_id=evil) for _ in range(2500)))
    answer = await api.http.get("/v1/audit/export", params={"format": format, "action": "audit.dropped"}, headers=admin)
    assert answer.headers["Content-Disposition"] == f'attachment; filename="onsembl-audit.{format}"'
    if format == "jsonl":
        rows = [json.loads(line) for line in answer.text.splitlines()]
        assert rows[0]["target_id"] == evil
    else:
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert rows[0]["target_id"] == "'" + evil
    assert len(rows) == 2500
    assert [int(row["id"]) for row in rows] == sorted(int(row["id"]) for row in rows)
    (taken,) = (await read(api, admin, action="audit.exported"))["events"]
    assert taken["detail"] == {"format": format, "action": "audit.dropped"}


async def test_the_chain_is_lengthened_while_it_runs(settings):
    """A worker seals new entries within seconds, and the API returns the end of the chain."""
    async with running(replace(settings, worker=WorkerSettings())) as api:
        admin = (await api.operator()).headers
        await logged(api, Event(actor=audit.SYSTEM, action="audit.dropped"))

        async def sealed() -> bool:
            chain = (await api.http.get("/v1/audit/chain", headers=admin)).json()
            return chain["seq"] >= 2 and chain["unsealed"] == 0 and len(chain["hash"]) == 64

        await until(sealed, "the rows to be sealed")


async def test_who_is_turned_away_is_counted(api, admin):
    """Rejections at every endpoint are counted with reason and address; equal rejections are one entry with a count."""
    agent = await api.enrol()
    for _ in range(3):
        assert (await api.http.get("/v1/me", headers={"Authorization": "Bearer x"})).status_code == 401
    with pytest.raises(InvalidStatus):
        await api.terminal_socket(agent.id, origin="https://evil.example")
    agent.access_token = "x"
    with pytest.raises(InvalidStatus):
        await api.agent_socket(agent)
    await api.services.rejections.write()
    rows = (await read(api, admin, action="request.refused"))["events"]
    assert {(row["target_id"], row["detail"]["count"], row["address"]) for row in rows} == {
        ("GET /v1/me", 3, "127.0.0.1"),
        ("page", 1, "127.0.0.1"),
        ("agent socket", 1, "127.0.0.1"),
    }
    assert all(row["outcome"] == "refused" and row["detail"]["reason"] for row in rows)


async def test_who_is_turned_away_later_is_counted_too(api, admin):
    """Later rejections are counted on open sockets, in the device flow and at sign-in; neither a rejection with an
    entry of its own nor an agent that is asked to retry is counted."""
    one, two = await api.enrol("one"), await api.enrol("two")
    async with api.agent_socket(one) as socket:
        await socket.send(HELLO_TEXT)
        await socket.send(json.dumps({"type": "refresh", "refresh_token": "onr_nothing"}))
        assert await close_code(socket) == CloseCode.REFRESH_REJECTED
    async with api.agent_socket(two) as socket:
        await api.http.post(f"/v1/agents/{two.id}/disable", headers=admin)
        await socket.send(HELLO_TEXT)
        assert await close_code(socket) == CloseCode.REVOKED
    async with api.terminal_socket(one.id) as socket:
        await socket.send("{")
        assert await close_code(socket) == CloseCode.BAD_MESSAGE
    form = {"grant_type": GRANT_TYPE, "device_code": "ond_nothing"}
    assert (await api.http.post("/v1/device/token", data=form)).json()["error"] == "invalid_grant"
    asked = await api.http.post("/v1/device/authorization", data={"name": "three", "kind": "shell"})
    form["device_code"] = asked.json()["device_code"]
    assert (await api.http.post("/v1/device/token", data=form)).json()["error"] == "authorization_pending"
    key = {"apikey": await api.key()}
    nothing = {"email": "nobody@example.org", "password": "wrong wrong", "refresh_token": "nothing"}
    for grant in ("password", "refresh_token"):
        answer = await api.http.post(f"/auth/v1/token?grant_type={grant}", json=nothing, headers=key)
        assert answer.status_code == 400
    assert (await api.http.post("/auth/v1/token?grant_type=password", json=nothing)).status_code == 401
    await api.services.rejections.write()
    rows = (await read(api, admin, action="request.refused"))["events"]
    assert {(row["target_id"], row["actor_kind"], row["actor_id"], row["detail"]["count"]) for row in rows} == {
        ("agent socket", "agent", one.id, 1),
        ("agent socket", "agent", two.id, 1),
        ("terminal socket", "anonymous", None, 1),
        ("POST /v1/device/token", "anonymous", None, 1),
        ("sign-in", "anonymous", None, 1),
    }
    assert sum(row["detail"]["count"] for row in rows) == 6
    (failed,) = (await read(api, admin, action="operator.sign_in", outcome="refused"))["events"]
    assert failed["actor_name"] == "nobody@example.org"


async def test_an_alert_is_seen_once(api, admin):
    """An alert is acknowledged once, and the audit log names the admin who did it first."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        await socket.recv()
    async with await connect(api.database_url, role="onsembl_api") as conn:
        await conn.execute(
            "insert into alerts (kind, agent_id, text) values ('refresh_token_reused', %s, 'x')", [agent.id]
        )
    (alert,) = (await api.http.get("/v1/alerts", headers=admin)).json()["alerts"]
    assert alert["acknowledged_at"] is None
    for _ in range(2):
        answer = await api.http.post(f"/v1/alerts/{alert['id']}/acknowledge", headers=admin)
        assert (answer.status_code, answer.json()["acknowledged_at"] is not None) == (200, True)
    assert len((await read(api, admin, action="alert.acknowledged"))["events"]) == 1
    assert (await api.http.post("/v1/alerts/999/acknowledge", headers=admin)).status_code == 404


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_cell_of_an_export_is_a_formula(first: str):
    """A spreadsheet shows the text of a cell that begins like a formula, full-width too, and runs nothing."""
    row = dict.fromkeys(audit_log.COLUMNS) | {"actor_name": f"{first}cmd|' /C calc'!A0", "detail": {"a": 1}}
    (cells,) = csv.reader(io.StringIO(audit_export.line(row, "csv", lambda _: None).decode(), newline=""))
    assert f"'{first}cmd|' /C calc'!A0" in cells
