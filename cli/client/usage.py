"""`onsembl usage`: the tokens and the cost of turns."""

from __future__ import annotations

from datetime import datetime
from typing import Any, BinaryIO
from urllib.parse import urlencode

import click

from onsembl.cli.client.options import server_option, since_option, until_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line, styled

GROUPS = ("day", "model", "agent", "operator", "conversation", "label", "turn")
COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


@click.command()
@click.option("--by", type=click.Choice(GROUPS), default="day", show_default=True, help="How turns are grouped.")
@since_option
@until_option
@click.option("--time-zone", default="UTC", show_default=True, help="The time zone of days, such as Europe/Berlin.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="Maximum number of groups.")
@click.option("--csv", "file", type=click.File("wb", lazy=True), help="Write each turn and model to this CSV file.")
@json_option
@server_option
def usage(
    by: str,
    since: datetime | None,
    until: datetime | None,
    time_zone: str,
    limit: int,
    file: BinaryIO | None,
    as_json: bool,
    server: str | None,
) -> None:
    """Show the tokens and the cost of turns, by default of the last 30 days by day. Needs `onsembl login`.

    A cost with ~ is an estimate by the table of prices (`onsembl prices`), wholly or in part. Tokens with ≥ are the
    least that was used: the CLIs of some turns are not known to report all.
    """
    period = {name: time.isoformat() for name, time in (("since", since), ("until", until)) if time is not None}
    with OperatorClient(server) as client:
        if file is not None:
            client.download("/v1/usage/export", period, file.write)
            file.flush()
            return
        query = {**period, "by": by, "time_zone": time_zone, "limit": str(limit)}
        report = client.request("GET", f"/v1/usage?{urlencode(query)}")
    if as_json:
        print_json(report)
        return
    rows = [(_name(group, by), group) for group in report["groups"]] + [("total", report["total"])]
    width = min(60, max(len(name) for name, _ in rows))
    print_line(
        styled(f"{by:<{width}}  {'turns':>7}  {'input':>13}  {'output':>13}", dim=True),
        styled(f"  {'cache read':>13}  {'cache write':>13}  {'cost':>12}", dim=True),
    )
    for name, row in rows:
        least = "≥" if row["partial_turns"] else ""
        counts = "  ".join(f"{least}{row[count]:,}".rjust(13) for count in COUNTS)
        print_line(f"{name[:60]:<{width}}  {row['turns']:>7,}  {counts}  {_cost(row):>12}")


def _name(group: dict[str, Any], by: str) -> str:
    name = " ".join(group["name"].split())
    if by in ("conversation", "turn"):
        return f"{group['key'] or '-'}  {name}"
    return name or "-"


def _cost(row: dict[str, Any]) -> str:
    if row["cost_usd"] is None:
        return "-"
    return f"{'~' if row['estimated_usd'] else ''}${row['cost_usd']:,.2f}"
