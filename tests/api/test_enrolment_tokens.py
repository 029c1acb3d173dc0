"""Enrolment tokens: created, listed and withdrawn, over the API and by `onsembl`, with an admin's other commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.api_calls import audit_entries
from support.command_line import CommandLine

from onsembl.protocol.states import Role
from onsembl.sql.database import connect

pytestmark = pytest.mark.no_worker


async def enrolled(api, token: str, name: str = "one") -> int:
    answer = await api.http.post(
        "/v1/agents/enrol", json={"name": name, "kind": "shell"}, headers={"Authorization": f"Bearer {token}"}
    )
    return answer.status_code


async def test_a_token_is_listed_until_it_is_used_or_withdrawn(api):
    """A token is listed with its creator and expiry but without its text; a withdrawn token enrols no agent and is
    audited."""
    admin = await api.operator()

    async def call_api(method: str, path: str = "", status: int = 200, **body) -> dict:
        answer = await api.http.request(method, f"/v1/enrolment-tokens{path}", json=body, headers=admin.headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    used, kept, withdrawn = [await call_api("POST", status=201, name_pattern=name) for name in ("one", "two", "th*")]
    assert await enrolled(api, used["token"]) == 201
    listed = (await call_api("GET"))["tokens"]
    assert [(row["id"], row["name_pattern"], row["created_by_name"]) for row in listed] == [
        (withdrawn["id"], "th*", admin.email),
        (kept["id"], "two", admin.email),
    ]
    assert "one_" not in json.dumps(listed)
    await call_api("DELETE", f"/{withdrawn['id']}")
    for gone in (withdrawn, used):
        await call_api("DELETE", f"/{gone['id']}", status=404)
    assert await enrolled(api, withdrawn["token"], "three") == 401
    assert [row["id"] for row in (await call_api("GET"))["tokens"]] == [kept["id"]]
    assert await audit_entries(api, "enrolment_token.withdrawn") == [
        ("enrolment_token.withdrawn", {"name_pattern": "th*"})
    ]


async def test_only_an_admin_sees_and_withdraws_them(api):
    """Only an admin lists and withdraws enrolment tokens."""
    viewer, operator = await api.operator(Role.VIEWER), await api.operator(Role.OPERATOR)
    for account in (viewer, operator):
        assert (await api.http.get("/v1/enrolment-tokens", headers=account.headers)).status_code == 403


async def test_a_token_goes_with_its_maker(api):
    """A token of an admin who is disabled or has lost the role is not listed and enrols no agent."""
    admin = await api.operator()
    for change in ("disabled_at = now()", "role = 'operator'"):
        made = await api.http.post("/v1/enrolment-tokens", json={}, headers=admin.headers)
        async with await connect(api.database_url) as conn:
            await conn.execute(f"update operators set {change}")
        assert await enrolled(api, made.json()["token"]) == 401
        async with await connect(api.database_url) as conn:
            await conn.execute("update operators set disabled_at = null, role = 'admin'")
        assert await enrolled(api, made.json()["token"], change[:4]) == 201


async def test_an_admin_does_all_that_from_a_terminal(api, tmp_path: Path):
    """An admin manages tokens, device requests, alerts and disabled agents by `onsembl`, with JSON output for
    programs."""
    run = CommandLine(api, await api.operator(), tmp_path).run
    token, _ = await run("enrolment-tokens", "create", "--name-pattern", "on*", "--expires-in", "600")
    made = json.loads((await run("enrolment-tokens", "create", "--json"))[0])
    assert made["token"].startswith("one_")
    listed = json.loads((await run("enrolment-tokens", "list", "--json"))[0])
    assert [row["name_pattern"] for row in listed] == ["*", "on*"]
    assert "is withdrawn" in (await run("enrolment-tokens", "withdraw", made["id"]))[0]
    assert (await run("enrolment-tokens", "list"))[0].split()[1] == "on*"
    assert await enrolled(api, token.strip()) == 201

    codes = {}
    for name in ("two", "three"):
        asked = await api.http.post("/v1/device/authorization", data={"name": name, "kind": "shell"})
        codes[name] = asked.json()["user_code"]
    out, _ = await run("devices", "list")
    assert {line.split()[0] for line in out.splitlines()} == set(codes.values())
    assert "approved" in (await run("devices", "approve", codes["two"], "--name", "second"))[0]
    assert json.loads((await run("devices", "refuse", codes["three"], "--json"))[0])["state"] == "refused"
    assert json.loads((await run("devices", "list", "--json"))[0]) == []

    assert "is disabled" in (await run("agents", "disable", "second"))[0]
    assert "disabled" in next(line for line in (await run("agents", "list"))[0].splitlines() if "second" in line)
    assert json.loads((await run("agents", "enable", "second", "--json"))[0])["disabled_at"] is None

    async with await connect(api.database_url) as conn:
        await conn.execute("insert into alerts (kind, text) values ('refresh_token_reused', 'It was used twice.')")
    [alert] = json.loads((await run("alerts", "list", "--json"))[0])
    assert " open " in (await run("alerts", "list"))[0]
    await run("alerts", "acknowledge", str(alert["id"]))
    assert (await run("alerts", "list"))[0] == ""
    assert "It was used twice." in (await run("alerts", "list", "--all"))[0]
