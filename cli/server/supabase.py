"""`onsembl supabase`: set up and check a hosted project, or serve a built-in one."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onsembl.cli import logs
from onsembl.cli.errors import CliError
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line, styled
from onsembl.cli.server.database_url import require_database, running_database
from onsembl.cli.server.hosted_project import hosted_project, require_session_database
from onsembl.cli.server.listener import listen
from onsembl.cli.server.options import data_dir_option, database_url_option
from onsembl.realtime.hosted import HostedProject
from onsembl.sql.migrate import MigrationError, migrate

if TYPE_CHECKING:
    from onsembl.cli.server.supabase_check import Finding


@click.group()
def supabase() -> None:
    """Set up and check a hosted Supabase project."""


@supabase.command()
@database_url_option
def setup(database_url: str | None) -> None:
    """Prepare the project's database: migrations, grants, publication. Safe to run again."""
    project, url = _project(database_url)
    for name in _migrate(url, builtin=False):
        print_line(f"Applied {name}")
    for change in asyncio.run(_grant_and_publish(url)):
        print_line(change)
    print_line(f"{project.url} is set up. Check it with: onsembl supabase check")


async def _grant_and_publish(url: str) -> list[str]:
    """What was changed, one sentence each."""
    from onsembl.sql import supabase_setup
    from onsembl.sql.database import connect

    async with await connect(url) as conn:
        await supabase_setup.ensure_granted(conn)
        changes = [f"Published onsembl.{table}" for table in await supabase_setup.ensure_published(conn)]
        if await supabase_setup.ensure_channel_policy(conn):
            changes.append("Created the policy onsembl_operators_read on realtime.messages")
        return changes


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
def check(as_json: bool, wait: float, database_url: str | None) -> None:
    """Check the project step by step, and say how to fix each failure. The exit code is 1 when a check fails."""
    from onsembl.cli.server.supabase_check import Checks, run

    checks = Checks(*_project(database_url), wait)

    async def walk() -> list[Finding]:
        findings: list[Finding] = []
        for name, one in checks.all():
            finding = await run(name, one)
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
    print_line(mark, f" {finding.check:<13} {finding.detail}")
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
    try:
        return asyncio.run(migrate(url, builtin_supabase=builtin, ours=ours))
    except MigrationError as error:
        raise CliError(str(error)) from error


def _project(database_url: str | None) -> tuple[HostedProject, str]:
    project = hosted_project()
    if project is None:
        raise CliError("Set SUPABASE_URL, SUPABASE_PUBLISHABLE_KEY and SUPABASE_SECRET_KEY first.")
    if database_url is None:
        raise CliError("Set DATABASE_URL to the project's database: the direct connection or the session pooler.")
    require_session_database(database_url)
    require_database(database_url)
    return project, database_url
