"""A hosted Supabase project, rebuilt: its roles and rights, the tenant's schemas, and its Auth and Realtime.

The login of the project's owner has the rights that `postgres` has in a project, and no more: it is no superuser, and
may open 15 connections, as the session pooler of a small project allows. The schemas `auth` and `realtime` belong to
others. Auth and Realtime are the built-in ones, which another thread serves.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import uvicorn
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from support.control_center import clean_environment
from support.databases import fresh_database
from support.forked import run_forked
from support.returns import Returns
from support.second_factors import SecondFactors, Totp, changed

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.realtime.auth.events import AuthEvent
from onsembl.realtime.auth.mail_server import MailServer
from onsembl.realtime.auth.settings import AuthSettings
from onsembl.realtime.builtin import BuiltinSupabase, create_project_app
from onsembl.realtime.channels.limits import RealtimeLimits
from onsembl.sql.migrate import migrate

CONNECTIONS = 15
"""The connections of a small project's session pooler."""

RIGHTS = """
grant anon, authenticated, service_role, onsembl_api to {login} with admin option;
create role {login}_realtime nologin;
grant {login}_realtime to {login};
alter database {database} owner to {login};
alter publication supabase_realtime owner to {login};
alter table realtime.messages owner to {login}_realtime;
grant usage on schema auth, realtime to {login};
grant {login}_realtime to onsembl;
create table auth.mfa_factors (id uuid primary key, user_id uuid not null, status text not null);
alter table auth.mfa_factors enable row level security;
grant select on auth.mfa_factors to {login};
drop function auth.present_role();
drop schema onsembl_migrations cascade;
"""
"""A project has no `auth.present_role()`: the tokens hold the roles. It has nothing of Onsembl's."""


@dataclass
class SupabaseProject:
    """The project, as the `environment` of an Onsembl that uses it.

    `owner` is the URL of the login with the owner's rights, and `superuser` that of Supabase itself. `settings`
    replace parts of what Auth says about itself. With `refuses_sockets`, Realtime accepts no socket.
    """

    environment: dict[str, str]
    owner: str = ""
    superuser: str = ""
    login: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    refuses_sockets: bool = False
    second_factors: SecondFactors = field(default_factory=SecondFactors)

    def onsembl(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run_forked(*arguments, env={**self.environment, **more}, timeout=150)

    def execute(self, *statements: str) -> list[dict[str, Any]]:
        """Run statements as Supabase's superuser, each its own transaction; return the rows of the last."""
        with psycopg.connect(self.superuser, autocommit=True, row_factory=dict_row) as conn:
            for statement in statements:
                cursor = conn.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def add_factor(self, email: str) -> Totp:
        """Give the user a verified second factor."""
        user_id = self.execute(f"select id from auth.users where email = '{email}'")[0]["id"]
        factor = self.second_factors.add(str(user_id))
        self.execute(f"insert into auth.mfa_factors values ('{factor.id}', '{user_id}', 'verified')")
        return factor

    def add_code(self, challenge: str) -> str:
        """A code for which the holder of the challenge's verifier gets a session of the first user."""
        code = secrets.token_urlsafe(16)
        self.execute(
            f"""insert into auth.one_time_tokens
                    (user_id, kind, token_hash, code_challenge, code_challenge_method, expires_at)
                select id, 'code', sha256('{code}'), '{challenge}', 's256', now() + interval '5 minutes'
                from auth.users order by created_at limit 1"""
        )
        return code

    def read_only(self, on: bool) -> None:
        """Make the project read-only, as Supabase does when its disk is full, and end its sessions."""
        database = psycopg.conninfo.conninfo_to_dict(self.superuser)["dbname"]
        self.execute(
            f"alter role {self.login} in database {database} set default_transaction_read_only = {str(on).lower()}",
            f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{self.login}'",
        )


@contextmanager
def supabase_project(
    postgres: EmbeddedPostgres,
    *,
    private_only: bool = False,
    publication: bool = True,
    mail_server: MailServer | None = None,
) -> Iterator[SupabaseProject]:
    """Serve a project on a new database, without Onsembl's tables."""
    login = f"project_{os.urandom(4).hex()}"
    with fresh_database(postgres) as superuser:
        with ThreadPoolExecutor(1) as thread:  # the caller may have an event loop
            thread.submit(asyncio.run, migrate(superuser, builtin_supabase=True, ours=False)).result()
        database = psycopg.conninfo.conninfo_to_dict(superuser)["dbname"]
        project = SupabaseProject({}, superuser=superuser, login=login)
        project.execute(
            f"create role {login} login createrole createdb bypassrls replication password 'pw'"
            f" connection limit {CONNECTIONS}",
            *RIGHTS.format(login=login, database=database).strip().split(";")[:-1],
        )
        if not publication:
            project.execute("drop publication supabase_realtime")
        project.owner = make_conninfo(superuser, user=login, password="pw")
        listener = socket.create_server(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            limits = RealtimeLimits(private_only=private_only, connect_error_backoff=0.0, join_error_backoff=0.0)
            with _served(project, address, listener, limits, AuthSettings(mail_server=mail_server)) as builtin:
                project.environment = clean_environment(
                    SUPABASE_URL=address,
                    SUPABASE_PUBLISHABLE_KEY=builtin.publishable_key,
                    SUPABASE_SECRET_KEY=builtin.secret_key,
                    DATABASE_URL=project.owner,
                )
                yield project
        finally:
            listener.close()
            project.execute(
                f"reassign owned by {login}, {login}_realtime to onsembl",
                f"drop owned by {login}, {login}_realtime",
                f"alter database {database} owner to onsembl",
                f"drop role {login}",
                f"drop role {login}_realtime",
            )


@contextmanager
def _served(
    project: SupabaseProject, address: str, listener: socket.socket, limits: RealtimeLimits, auth: AuthSettings
) -> Iterator[BuiltinSupabase]:
    builtin = BuiltinSupabase(
        database_url=project.superuser,
        issuer=f"{address}/auth/v1",
        on_event=_ignore,
        limits=limits,
        settings=auth,
    )
    project_app = project.second_factors.serve(create_project_app(builtin), builtin)
    app = _Front(Returns(project_app, project.add_code), project)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="websockets-sansio", lifespan="on"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    started = threading.Event()

    async def serve() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        started.set()
        await serving

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="Supabase", daemon=True)
    thread.start()
    assert started.wait(60)
    try:
        yield builtin
    finally:
        server.should_exit = True
        thread.join(60)


class _Front:
    """The project's gateway, which can be told to answer otherwise."""

    def __init__(self, app: ASGIApp, project: SupabaseProject) -> None:
        self._app = app
        self._project = project

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        project = self._project
        if scope["type"] == "websocket" and project.refuses_sockets:
            await receive()
            await JSONResponse({"error": "Realtime was disabled for this tenant"}, 403)(scope, receive, send)
        elif scope.get("method") == "GET" and scope["path"] == "/auth/v1/settings" and project.settings:
            await changed(self._app, lambda settings: {**settings, **project.settings})(scope, receive, send)
        else:
            await self._app(scope, receive, send)


async def _ignore(_event: AuthEvent) -> None:
    """Record nothing."""
