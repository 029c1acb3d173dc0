"""`onsembl audit`: check the audit log's chain of hashes, and take a copy of the log."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import click

from onsembl.cli.client.times import moment
from onsembl.cli.server.actor import command_line_actor
from onsembl.cli.server.data_folder import data_dir_option
from onsembl.cli.server.database_url import database_url_option, running_database
from onsembl.fleet import audit_export
from onsembl.fleet.audit_chain import Verifier
from onsembl.fleet.audit_seal import verify as verify_chain
from onsembl.sql import audit, audit_chain, audit_log
from onsembl.sql.audit_log import Filter
from onsembl.sql.database import connect


@click.group("audit")
def audit_group() -> None:
    """Check the audit log, and take a copy of it."""


@audit_group.command()
@click.option("--expect-head", "expected", multiple=True, help="A hash noted before: it must be in the chain.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@database_url_option
@data_dir_option
def verify(expected: tuple[str, ...], as_json: bool, database_url: str | None, data_dir: Path) -> None:
    """Check every row against the chain of hashes; say which was changed, taken out or put in.

    Keep the hash that is printed somewhere else, and give it with --expect-head the next time: then even somebody who
    owns the database cannot rewrite what was before it. The exit code is 1 when anything is wrong.
    """
    url = running_database(database_url, data_dir)
    verifier, unsealed = asyncio.run(_verify(url, frozenset(hash.lower() for hash in expected), quiet=as_json))
    if as_json:
        result = {
            "ok": verifier.wrong == 0,
            "rows": verifier.checked,
            "head": {"seq": verifier.seq, "hash": verifier.hash.hex()},
            "unsealed": unsealed,
            "wrong": verifier.wrong,
            "findings": verifier.findings,
        }
        click.echo(json.dumps(result, indent=2))
    else:
        for finding in verifier.findings:
            click.echo(f"WRONG  {finding}")
        if verifier.wrong > len(verifier.findings):
            click.echo(f"… and {verifier.wrong - len(verifier.findings)} more.")
        if verifier.wrong == 0:
            click.echo(f"The log is whole: {verifier.checked} rows, none changed, missing or put in.")
        click.echo(f"Head: {verifier.hash.hex()} (link {verifier.seq})")
        if unsealed:
            click.echo(f"{unsealed} rows are not in the chain yet; a worker adds them within about a second.")
    if verifier.wrong:
        sys.exit(1)


async def _verify(url: str, expected: frozenset[str], quiet: bool) -> tuple[Verifier, int]:
    def progress(rows: int) -> None:
        if not quiet and sys.stderr.isatty():
            click.echo(f"\r{rows} rows …", nl=False, err=True)

    async with await connect(url, role="onsembl_api", autocommit=True) as conn:
        verifier = await verify_chain(conn, expected, progress)
        status = await audit_chain.status(conn)
    if not quiet and sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)
    return verifier, status["unsealed"]


@audit_group.command()
@click.option("--since", type=moment, help="Not before: 7d, 36h, 2026-01-31, 2026-01-31T12:00:00Z.")
@click.option("--until", type=moment, help="Before.")
@click.option("--actor", help="A part of the name of who acted, or their id.")
@click.option("--action", help="One action, or several by their beginning: `agent.`")
@click.option("--target", help="The id of what was acted on.")
@click.option("--format", "format", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option("-o", "--output", type=click.File("wb", lazy=True), default="-", help="Where to; standard output.")
@database_url_option
@data_dir_option
def export(
    since: datetime | None,
    until: datetime | None,
    actor: str | None,
    action: str | None,
    target: str | None,
    format: audit_export.Format,
    output: BinaryIO,
    database_url: str | None,
    data_dir: Path,
) -> None:
    """Write the log, oldest first. That it was taken is in the log, too."""
    wanted = Filter(since=since, until=until, actor=actor, action=action, target=target)
    count = asyncio.run(_export(running_database(database_url, data_dir), wanted, format, output))
    click.echo(f"{count} rows.", err=True)


async def _export(url: str, wanted: Filter, format: audit_export.Format, output: BinaryIO) -> int:
    count = 0
    async with await connect(url, role="onsembl_api") as conn:
        detail = {name: str(value) for name in wanted.__slots__ if (value := getattr(wanted, name)) is not None}
        event = audit.Event(actor=command_line_actor(), action="audit.exported", detail={**detail, "format": format})
        await audit.write(conn, event)
        await conn.commit()
        output.write(audit_export.head(format))
        async with aclosing(audit_log.all_rows(conn, wanted)) as rows:
            async for row in rows:
                output.write(audit_export.line(row, format))
                count += 1
    return count
