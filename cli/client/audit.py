"""`onsembl audit`: verify the audit log's hash chain, and export the log."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import click

from onsembl.cli.client.options import since_option, until_option
from onsembl.cli.json_output import json_option, print_json
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
    """Verify and export the audit log."""


@audit_group.command()
@click.option(
    "--expect-head",
    "expected",
    multiple=True,
    help="A head hash from an earlier run, which must be in the chain (repeat for several).",
)
@json_option
@database_url_option
@data_dir_option
def verify(expected: tuple[str, ...], as_json: bool, database_url: str | None, data_dir: Path) -> None:
    """Verify every row against the hash chain; name rows that were changed, removed or inserted.

    Store the printed head hash outside of the database, and give it with --expect-head the next time: then even the
    owner of the database cannot rewrite earlier rows. The exit code is 1 when a check fails.
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
        print_json(result)
    else:
        for finding in verifier.findings:
            click.echo(f"WRONG  {finding}")
        if verifier.wrong > len(verifier.findings):
            click.echo(f"… and {verifier.wrong - len(verifier.findings)} more.")
        if verifier.wrong == 0:
            click.echo(f"The log is intact: {verifier.checked} rows, none changed, removed or inserted.")
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
@since_option
@until_option
@click.option("--actor", help="A part of the actor's name, or the actor's id.")
@click.option("--action", help="One action, or all with a prefix that ends with a dot: `agent.`")
@click.option("--target", help="The id of the target.")
@click.option(
    "--format",
    "format",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="The file format.",
)
@click.option("-o", "--output", type=click.File("wb", lazy=True), default="-", help="The output file; default: stdout.")
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
    """Export the log, oldest row first. The export is recorded in the log, too."""
    filter = Filter(since=since, until=until, actor=actor, action=action, target=target)
    count = asyncio.run(_export(running_database(database_url, data_dir), filter, format, output))
    click.echo(f"{count} rows.", err=True)


async def _export(url: str, filter: Filter, format: audit_export.Format, output: BinaryIO) -> int:
    count = 0
    async with await connect(url, role="onsembl_api") as conn:
        detail = {name: str(value) for name in filter.__slots__ if (value := getattr(filter, name)) is not None}
        event = audit.Event(actor=command_line_actor(), action="audit.exported", detail={**detail, "format": format})
        await audit.write(conn, event)
        await conn.commit()
        output.write(audit_export.head(format))
        async with aclosing(audit_log.all_rows(conn, filter)) as rows:
            async for row in rows:
                output.write(audit_export.line(row, format))
                count += 1
    return count
