"""Row-level security as a browser meets it: the rights of its role at each table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

READABLE = {
    "agents",
    "alerts",
    "commands",
    "conversations",
    "halt_agents",
    "halts",
    "schedules",
    "streams",
    "turn_progress",
}


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to a database with one agent, one stream and one command."""
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as conn:
        agent = conn.execute("insert into onsembl.agents (name, kind) values ('one', 'shell') returning id").fetchone()
        assert agent is not None
        conn.execute("insert into onsembl.alerts (kind, text) values ('refresh_token_reused', 'x')")
        conn.execute(
            """with halt as (insert into onsembl.halts (seconds) values (2) returning id)
               insert into onsembl.halt_agents (halt_id, agent_id, state) select id, %s, 'stopping' from halt""",
            [agent["id"]],
        )
        conn.execute(
            """insert into onsembl.schedules (name, target, text, at, updated_by, updated_by_name)
               values ('nightly', '{"all": true}', 'ls', now(), gen_random_uuid(), 'ann')"""
        )
        conn.execute(
            "insert into onsembl.conversations (agent_id, cli_id, title) values (%s, 'c', 'title')", [agent["id"]]
        )
        conn.execute("insert into onsembl.streams (agent_id) values (%s)", [agent["id"]])
        conn.execute(
            """with command as (insert into onsembl.commands (agent_id, text) values (%(agent)s, 'ls') returning id)
               insert into onsembl.turn_progress
                   (command_id, agent_id, steps, number, kind, name, title, status, changed)
               select id, %(agent)s, 1, 1, 'message', '', '', 'completed', 1 from command""",
            {"agent": agent["id"]},
        )
        yield conn


def become(conn: psycopg.Connection, role: str, app_role: object = None) -> None:
    """Take the role and the claims that Supabase sets for a request."""
    claims = {"sub": str(uuid4()), "role": role, "app_metadata": {"role": app_role} if app_role else {}}
    conn.execute("select set_config('request.jwt.claims', %s, false)", [json.dumps(claims)])
    conn.execute(f"set role {role}")


def tables(conn: psycopg.Connection) -> list[str]:
    return [
        row["relname"]
        for row in conn.execute(
            "select relname from pg_class where relnamespace = 'onsembl'::regnamespace and relkind in ('r', 'p')"
        )
    ]


@pytest.mark.parametrize("app_role", ["viewer", "operator", "admin"])
def test_an_operator_reads_the_dashboards_tables_and_nothing_else(conn, app_role):
    """An operator reads agents, streams and commands, and neither credentials nor keys nor the audit log."""
    names = tables(conn)
    become(conn, "authenticated", app_role)
    for name in names:
        if name in READABLE:
            assert conn.execute(f"select count(*) from onsembl.{name}").fetchone()["count"] == 1, name
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(f"select * from onsembl.{name}")


@pytest.mark.parametrize(("role", "app_role"), [("authenticated", None), ("authenticated", "root")])
def test_somebody_signed_in_without_a_role_sees_no_row(conn, role, app_role):
    """A user of the project without a role reads no row."""
    become(conn, role, app_role)
    for name in READABLE:
        assert conn.execute(f"select count(*) from onsembl.{name}").fetchone()["count"] == 0, name


def test_nobody_who_is_not_signed_in_reads_anything(conn):
    """The role `anon` does not have access to the schema."""
    become(conn, "anon")
    for name in READABLE:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(f"select * from onsembl.{name}")


@pytest.mark.parametrize("app_role", ["viewer", "operator", "admin"])
def test_no_browser_writes(conn, app_role):
    """Even an admin's token inserts, changes and deletes no row, because commands go through the API."""
    names = tables(conn)
    become(conn, "authenticated", app_role)
    for name in names:
        for statement in (f"delete from onsembl.{name}", f"insert into onsembl.{name} default values"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(statement)


def test_the_server_cannot_change_the_audit_log_or_read_passwords(conn):
    """The API's role inserts into the audit log, cannot change it, and cannot read passwords."""
    conn.execute("set role onsembl_api")
    conn.execute("insert into onsembl.audit (actor_kind, action, outcome) values ('system', 'test', 'ok')")
    for statement in (
        "update onsembl.audit set action = 'x'",
        "delete from onsembl.audit",
        "truncate onsembl.audit",
        "select * from auth.users",
        "select * from auth.project",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(statement)
