"""Row-level security as a browser meets it: the rights of its role at each table."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import dict_row
from support.published_rows import PUBLISHED_ROWS

from onsembl.protocol.states import Role
from onsembl.sql.published_tables import EVERY_PUBLISHED, PUBLISHED


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to a database with one row in each published table."""
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as conn:
        conn.execute(PUBLISHED_ROWS)
        yield conn


def become(conn: psycopg.Connection, role: str, app_role: object = None) -> None:
    """Take the role and the claims that Supabase sets for a request; `app_role` is that of a user with a session."""
    session = conn.execute(
        """with ann as (
               insert into auth.users (email, encrypted_password, app_metadata) values ('ann', 'x', %s) returning id)
           insert into auth.sessions (user_id) select id from ann returning id, user_id""",
        [json.dumps({"role": app_role})],
    ).fetchone()
    assert session is not None
    claims = {"sub": str(session["user_id"]), "session_id": str(session["id"]), "role": role}
    conn.execute("select set_config('request.jwt.claims', %s, false)", [json.dumps(claims)])
    conn.execute(f"set role {role}")


def tables(conn: psycopg.Connection) -> dict[str, list[str]]:
    """All tables with their columns."""
    return {
        row["name"]: row["columns"]
        for row in conn.execute(
            """select c.relname as name, array_agg(a.attname::text) as columns
               from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
               where c.relnamespace = 'onsembl'::regnamespace and c.relkind in ('r', 'p') group by c.relname"""
        )
    }


@pytest.mark.parametrize("app_role", list(Role))
def test_an_operator_reads_the_dashboards_tables_and_nothing_else(conn, app_role):
    """An operator reads the rows of the published tables for the operator's role, and of them the listed columns; and
    neither credentials nor keys nor the audit log, nor the rows of a check."""
    columns = tables(conn)
    assert set(PUBLISHED) <= set(columns)
    become(conn, "authenticated", app_role)
    for name, present in columns.items():
        listed = EVERY_PUBLISHED[name].columns if name in EVERY_PUBLISHED else ()
        assert set(listed) <= set(present), name
        if listed:
            rows = conn.execute(f"""select {", ".join(f'"{column}"' for column in listed)} from onsembl.{name}""")
            shown = name in PUBLISHED and app_role.includes(PUBLISHED[name].role)
            assert rows.rowcount == (1 if shown else 0), name
        for column in set(present) - set(listed):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(f'select "{column}" from onsembl.{name}')


@pytest.mark.parametrize("app_role", [None, "root", ""])
def test_somebody_signed_in_without_a_role_sees_no_row(conn, app_role):
    """A user of the project without a role reads no row."""
    become(conn, "authenticated", app_role)
    for name, table in PUBLISHED.items():
        assert conn.execute(f'select "{table.columns[0]}" from onsembl.{name}').rowcount == 0, name


@pytest.mark.parametrize(
    "change",
    [
        "update auth.users set banned_until = now() + interval '1 hour'",
        "update auth.users set app_metadata = '{}'",
        "delete from auth.sessions",
        "delete from auth.users",
        "insert into onsembl.operators (id, email, role, disabled_at) select id, email, 'admin', now() from auth.users",
    ],
)
def test_who_is_no_operator_any_more_sees_no_row(conn, change):
    """A ban, a demotion, a sign-out, a deletion and a disabled operator count at once, whatever the token says."""
    become(conn, "authenticated", "admin")
    conn.execute("reset role")
    conn.execute(change)
    conn.execute("set role authenticated")
    for name, table in PUBLISHED.items():
        assert conn.execute(f'select "{table.columns[0]}" from onsembl.{name}').rowcount == 0, name


def test_nobody_who_is_not_signed_in_reads_anything(conn):
    """The role `anon` does not have access to the schema."""
    conn.execute("set role anon")
    for name, table in PUBLISHED.items():
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(f'select "{table.columns[0]}" from onsembl.{name}')


@pytest.mark.parametrize("app_role", list(Role))
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
