"""`onsembl supabase`: set up and check a hosted project, or serve a built-in one."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import psycopg

from onsembl.cli import logs
from onsembl.cli.errors import CliError
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line, styled
from onsembl.cli.server.database_url import require_database, running_database
from onsembl.cli.server.hosted_project import hosted_project, require_session_database
from onsembl.cli.server.listener import listen
from onsembl.cli.server.options import data_dir_option, database_connections_option, database_url_option
from onsembl.realtime.hosted import HostedProject
from onsembl.sql.migrate import MigrationError, migrate
from onsembl.sql.process_database import FEWEST_FOR_API

if TYPE_CHECKING:
    from onsembl.cli.server.check_findings import Finding


T = TypeVar("T")


@click.group()
def supabase() -> None:
    """Set up and check a hosted Supabase project."""


@supabase.command()
@json_option
@database_url_option
def setup(as_json: bool, database_url: str | None) -> None:
    """Prepare the project's database: migrations, publication, grants, policies. Safe to run again."""
    project, url = _project(database_url)
    require_session_database(url)
    require_database(url)
    changes = [f"Applied {name}" for name in _migrate(url, builtin=False)]
    if not as_json:
        _print_all(changes)
    changed = _attempt(_set_up(url))
    if as_json:
        print_json({"project": project.url, "changes": changes + changed})
        return
    _print_all(changed)
    print_line(f"{project.url} is set up. Check it with: onsembl supabase check")


def _print_all(lines: Iterable[str]) -> None:
    for line in lines:
        print_line(line)


async def _set_up(url: str) -> list[str]:
    """Return what was changed, one sentence each."""
    from onsembl.sql import supabase_setup
    from onsembl.sql.database import connect

    async with await connect(url) as conn:
        changes = await supabase_setup.ensure_published(conn)
        changes += await supabase_setup.ensure_granted(conn)
        changes += await supabase_setup.ensure_read_policies(conn)
        if await supabase_setup.ensure_channel_policy(conn):
            changes.append("Created the policy onsembl_operators_read on realtime.messages")
        return changes


def _attempt(work: Coroutine[Any, Any, T]) -> T:
    """Run work on the database. Raises CliError with the fix for every error of the database."""
    from onsembl.cli.server.check_findings import first_line, fix_of

    try:
        return asyncio.run(work)
    except (psycopg.Error, MigrationError, OSError) as error:
        raise CliError(f"{first_line(error)}\nFix: {fix_of(error)}") from error


@supabase.command()
@json_option
@click.option(
    "--wait",
    type=click.FloatRange(0, 3600),
    default=20.0,
    show_default=True,
    help="Seconds to wait for Realtime to deliver a change.",
)
@database_url_option
@database_connections_option(FEWEST_FOR_API, hosted=8, default=24)
def check(as_json: bool, wait: float, database_url: str | None, database_connections: int) -> None:
    """Check the project step by step, and say how to fix each failure. The exit code is 1 when a check fails."""
    from onsembl.cli.server.supabase_check import Checks

    checks = Checks(*_project(database_url), database_connections, wait)

    async def walk() -> list[Finding]:
        findings: list[Finding] = []
        async for finding in checks.run():
            findings.append(finding)
            if not as_json:
                _print(finding)
        return findings

    findings = asyncio.run(walk())
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    if not all(finding.ok for finding in findings):
        raise SystemExit(1)


def _print(finding: Finding) -> None:
    mark = styled("ok  ", fg="green") if finding.ok else styled("FAIL", fg="red", bold=True)
    print_line(mark, f" {finding.check:<15} {finding.detail}")
    if finding.fix:
        print_line(f"     fix: {finding.fix}")


@supabase.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8401,
    show_default=True,
    help="The port to listen on; 0 takes a free one.",
)
@database_url_option
@data_dir_option
def serve(host: str, port: int, database_url: str | None, data_dir: Path) -> None:
    """Serve the Auth and Realtime of a Supabase project, to try the hosted mode on one machine."""
    from onsembl.cli.server.project_server import serve_project

    logs.configure(logging.WARNING)
    url = running_database(database_url, data_dir)
    _migrate(url, builtin=True, ours=False)
    serve_project(url, listen(host, port))


def _migrate(url: str, *, builtin: bool, ours: bool = True) -> list[str]:
    """The names of the migrations that were applied. Raises CliError."""
    return _attempt(migrate(url, builtin_supabase=builtin, ours=ours))


def _project(database_url: str | None) -> tuple[HostedProject, str]:
    project = hosted_project()
    if project is None:
        raise CliError("Set SUPABASE_URL, SUPABASE_PUBLISHABLE_KEY and SUPABASE_SECRET_KEY first.")
    if database_url is None:
        raise CliError("Set DATABASE_URL to the project's database: the direct connection or the session pooler.")
    return project, database_url
