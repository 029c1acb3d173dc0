"""`onsembl supabase`: set a hosted project up, check it, or play one."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from pathlib import Path

import click

from onsembl.cli import logs
from onsembl.cli.errors import StartError
from onsembl.cli.server.data_folder import data_dir_option
from onsembl.cli.server.database_url import database_url_option, require_database, running_database
from onsembl.cli.server.hosted_project import hosted_project, require_session_database
from onsembl.cli.server.listener import listen
from onsembl.realtime.hosted import HostedProject
from onsembl.sql.migrate import MigrationError, migrate


@click.group()
def supabase() -> None:
    """Set up and check a Supabase project, or play one on this machine."""


@supabase.command()
@database_url_option
def setup(database_url: str | None) -> None:
    """Bring the project's database to what Onsembl needs. Safe to run again."""
    project, url = _project(database_url)
    try:
        applied = asyncio.run(migrate(url, builtin_supabase=False))
    except MigrationError as error:
        raise StartError(str(error)) from error
    for name in applied:
        click.echo(f"Applied {name}")
    for table in asyncio.run(_ensure(url)):
        click.echo(f"Published onsembl.{table}")
    click.echo(f"{project.url} is set up. Check it with: onsembl supabase check")


async def _ensure(url: str) -> list[str]:
    from onsembl.sql import supabase_setup
    from onsembl.sql.database import connect

    async with await connect(url) as conn:
        await supabase_setup.ensure_granted(conn)
        return await supabase_setup.ensure_published(conn)


@supabase.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 3600),
    default=20.0,
    show_default=True,
    help="Seconds to wait for Realtime to deliver a change.",
)
@database_url_option
def check(as_json: bool, wait: float, database_url: str | None) -> None:
    """Walk through what must hold, and say how to mend what does not."""
    from onsembl.cli.server.supabase_check import Checks, Finding, run

    checks = Checks(*_project(database_url), wait)

    async def walk() -> list[Finding]:
        findings: list[Finding] = []
        for name, one in checks.all():
            finding = await run(name, one)
            findings.append(finding)
            if not as_json:
                _say(finding.check, finding.ok, finding.detail, finding.mend)
        return findings

    findings = asyncio.run(walk())
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    if not all(finding.ok for finding in findings):
        raise SystemExit(1)


def _say(name: str, ok: bool, detail: str, mend: str) -> None:
    mark = click.style("ok  ", fg="green") if ok else click.style("FAIL", fg="red", bold=True)
    click.echo(f"{mark} {name:<13} {detail}")
    if mend:
        click.echo(f"     mend: {mend}")


@supabase.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8401, show_default=True, help="0: any that is free.")
@database_url_option
@data_dir_option
def serve(host: str, port: int, database_url: str | None, data_dir: Path) -> None:
    """Play a Supabase project: its Auth and its Realtime, and nothing of Onsembl's.

    For trying Onsembl's hosted mode on one machine.
    """
    from onsembl.cli.server.project_server import serve_project

    logs.configure(logging.WARNING)
    url = running_database(database_url, data_dir)
    asyncio.run(migrate(url, builtin_supabase=True, ours=False))
    serve_project(url, listen(host, port))


def _project(database_url: str | None) -> tuple[HostedProject, str]:
    project = hosted_project()
    if project is None:
        raise StartError("Set SUPABASE_URL, SUPABASE_PUBLISHABLE_KEY and SUPABASE_SECRET_KEY first.")
    if database_url is None:
        raise StartError("Set DATABASE_URL to the project's database (direct, or through the session pooler).")
    require_session_database(database_url)
    require_database(database_url)
    return project, database_url
