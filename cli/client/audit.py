"""`onsembl audit`: verify the audit log's hash chain, and export the log."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import click

from onsembl.cli.client.access import uses_rest
from onsembl.cli.client.options import server_option, since_option, until_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line, print_progress
from onsembl.cli.server.options import data_dir_option, database_url_option

VERIFY_SECONDS = 3600.0
"""How long the server may take to verify a log."""


@click.group("audit")
def audit_group() -> None:
    """Verify and export the audit log.

    On the control center's own machine these commands use the database directly. Elsewhere they use the REST API and
    need `onsembl login` as an admin.
    """


@audit_group.command()
@click.option(
    "--expect-head",
    "expected",
    multiple=True,
    help="A head hash from an earlier run, which must be in the chain (repeat for several).",
)
@json_option
@server_option
@database_url_option
@data_dir_option
def verify(
    expected: tuple[str, ...], as_json: bool, server: str | None, database_url: str | None, data_dir: Path
) -> None:
    """Verify every row against the hash chain; name rows that were changed, removed or inserted.

    Store the printed head hash outside of the database, and give it with --expect-head the next time: then even the
    owner of the database cannot rewrite earlier rows. The exit code is 1 when a check fails.
    """
    expected = tuple(hash.lower() for hash in expected)
    if uses_rest(server, database_url, data_dir):
        with OperatorClient(server) as client:
            result = client.request("POST", "/v1/audit/verify", {"expected": expected}, timeout=VERIFY_SECONDS)
    else:
        from onsembl.cli.server.audit_database import verify_log
        from onsembl.cli.server.database_url import running_database

        def progress(rows: int) -> None:
            if not as_json:
                print_progress(f"{rows} rows …" if rows else "")

        result = verify_log(running_database(database_url, data_dir), expected, progress)
    if as_json:
        print_json(result)
    else:
        _print(result)
    if not result["ok"]:
        sys.exit(1)


def _print(result: dict[str, Any]) -> None:
    for finding in result["findings"]:
        print_line(f"WRONG  {finding}")
    if result["wrong"] > len(result["findings"]):
        print_line(f"… and {result['wrong'] - len(result['findings'])} more.")
    if result["ok"]:
        print_line(f"The log is intact: {result['rows']} rows, none changed, removed or inserted.")
    print_line(f"Head: {result['head']['hash']} (link {result['head']['seq']})")
    if result["unsealed"]:
        print_line(f"{result['unsealed']} rows are not in the chain yet; a worker adds them within about a second.")


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
@server_option
@database_url_option
@data_dir_option
def export(
    since: datetime | None,
    until: datetime | None,
    format: str,
    output: BinaryIO,
    server: str | None,
    database_url: str | None,
    data_dir: Path,
    **texts: str | None,
) -> None:
    """Export the log, oldest row first. The export is recorded in the log, too."""
    rows = 0

    def write(data: bytes) -> None:
        nonlocal rows
        output.write(data)
        rows += data.count(b"\n")

    if uses_rest(server, database_url, data_dir):
        times = {name: at.isoformat() for name, at in (("since", since), ("until", until)) if at is not None}
        query = {"format": format, **times, **{name: text for name, text in texts.items() if text is not None}}
        with OperatorClient(server) as client:
            client.download("/v1/audit/export", query, write)
        rows -= 1 if format == "csv" and rows else 0
    else:
        from onsembl.cli.server.audit_database import export_log
        from onsembl.cli.server.database_url import running_database

        rows = export_log(
            running_database(database_url, data_dir), {"since": since, "until": until, **texts}, format, output.write
        )
    output.flush()
    print_line(f"{rows} rows.", err=True)
