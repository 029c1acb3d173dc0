"""The release before runs on beside the present one while a deploy replaces it: its servers and its agents."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from api.test_reports import ANSWERS, investigate
from support.agents import FINAL, Operator, until
from support.api_calls import call_api
from support.asking_agents import running
from support.databases import fresh_database
from support.previous_release import FIRST_MIGRATION, ROOT, previous_agent, previous_release
from support.server import Api
from support.server import running as serving

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.enrol import enrol
from onsembl.api.settings import Settings
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import AgentKind
from onsembl.sql.migrate import migrate

PUBLIC = "https://onsembl.example"
ALLOW = {"decision": "allow"}
CONTRACTS = re.compile(
    r"\bdrop\s+(table|column|constraint\s+\w+\s*;|type|function|view)|\brename\b|\bset\s+not\s+null"
    r"|\badd\s+(column\s+)?\w+\s+[\w\[\]() ]+not\s+null(?![^,;]*default)",
    re.IGNORECASE,
)
"""What a release that runs would miss, or be refused for want of."""
EXPANDED_BEFORE = {
    "0066_audit_days_ahead.sql": "days of the audit log that are still to come, in a database without a row in it"
}
"""Migrations that contract what no release uses any more, with the reason."""


def new_migrations() -> list[Path]:
    first = (ROOT / FIRST_MIGRATION).name
    return [path for path in sorted((ROOT / "sql/migrations").glob("*.sql")) if path.name >= first]


def test_migrations_since_the_release_before_only_expand():
    """None drops, renames or newly requires what the release before uses."""
    assert new_migrations()
    for path in new_migrations():
        text = re.sub(r"--[^\n]*", "", path.read_text())
        found = CONTRACTS.search(text)
        assert found is None or path.name in EXPANDED_BEFORE, f"{path.name}: {found}"


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("alter table agents drop column kind;", True),
        ("alter table agents rename column kind to sort;", True),
        ("alter table agents add zone text not null;", True),
        ("alter table agents alter kind set not null;", True),
        ("alter table agents add zone text not null default '';", False),
        ("alter table instances add draining_since timestamptz;", False),
        ("create table zones (id uuid primary key, name text not null);", False),
    ],
)
def test_a_migration_that_contracts_is_found(statement, found):
    """The search knows the statements that the release before would not survive."""
    assert bool(CONTRACTS.search(statement)) is found


@pytest.mark.package
@pytest.mark.timeout(300)
async def test_the_release_before_works_on_the_new_schema(postgres, tmp_path):
    """A server of the release before serves commands, questions, their answers and reports while the database is
    migrated under it, and beside a server of this release, which sees what it did. (The short form reads the
    migrations.)"""
    with fresh_database(postgres) as database_url:
        async with previous_release(tmp_path, database_url, PUBLIC) as url:
            async with httpx.AsyncClient(base_url=url, timeout=60) as http:
                old = Api(url, database_url, http)
                operator = Operator(old, await old.operator())
                async with running(old, operator, "before") as asking:
                    assert await migrate(database_url, builtin_supabase=True)
                    await answered(operator, asking)
                async with running(old, operator, "after") as asking:
                    await answered(operator, asking)
                await investigate(old, operator, "reporter", ANSWERS[0])
                settings = Settings(database_url=database_url, public_url=PUBLIC, worker=None, address="present:1")
                async with serving(settings) as new:
                    account = Operator(new, await new.sign_in("admin@example.org"))
                    rows = (await call_api(account, "GET", "/v1/commands"))["commands"]
                    assert [row["state"] for row in rows] == ["succeeded"] * 3
                    reports = (await call_api(account, "GET", "/v1/reports"))["reports"]
                    assert reports == (await call_api(operator, "GET", "/v1/reports"))["reports"] != []
                    async with running(new, account, "beside") as asking:
                        await answered(operator, asking)


@pytest.mark.package
async def test_an_agent_of_the_release_before_works_with_this_server(database_url, tmp_path):
    """It runs commands, and comes back when it is told to move, which its release does not know."""
    state = tmp_path / "agents"
    async with serving(Settings(database_url=database_url, public_url="")) as api:
        operator = Operator(api, await api.operator())
        credentials = await enrol(api.url, await api.enrolment_token(), "one", AgentKind.SHELL)
        store.save(state / "one", credentials)
        options = ("--name", "one", "--state-dir", str(state), "--cwd", str(tmp_path))
        async with previous_agent(tmp_path / "previous", *options):
            for _ in range(2):
                command = await operator.send(credentials.agent_id, "echo seen")
                assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"
                api.services.hub.disconnect(AgentId(UUID(credentials.agent_id)), CloseCode.DRAINING, "It stops.")


async def answered(operator: Operator, asking) -> None:
    """A question of the agent is answered, and its command ends."""
    asked = await asking.ask(id=str(uuid4()))

    async def is_open() -> bool:
        path = f"/v1/attention/{asked['request_id']}"
        answer = await operator.api.http.get(path, headers=operator.headers)
        return answer.status_code == 200 and answer.json()["state"] == "open"

    await until(is_open, "the request")
    body = {"digest": asked["digest"], "decision": ALLOW}
    await call_api(operator, "POST", f"/v1/attention/{asked['request_id']}/answer", body)
    await asking.taken(await asking.answer())
    await asking.end()
    row = await operator.until_state(asking.command, *FINAL)
    assert row["state"] == "succeeded"
