"""`onsembl recovery`: let agents come back after the database was restored from a backup."""

from __future__ import annotations

from typing import Any

import click

from onsembl.cli.client.options import duration, server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line


@click.group("recovery")
def recovery_group() -> None:
    """Let agents come back after a restored backup. Needs `onsembl login` as an admin."""


@recovery_group.command("open")
@click.option(
    "--for",
    "period",
    type=duration,
    default="1d",
    show_default=True,
    metavar="TIME",
    help="How long, such as 2h; at most 7d.",
)
@json_option
@server_option
def open_recovery(period: float, as_json: bool, server: str | None) -> None:
    """Open a recovery: each agent that the restored database does not know gets new tokens, once."""
    with OperatorClient(server) as client:
        status = client.request("POST", "/v1/recovery", {"expires_in": int(period)})
    _show(status, as_json)


@recovery_group.command()
@json_option
@server_option
def show(as_json: bool, server: str | None) -> None:
    """Show the latest recovery, the agents that came back, and the agents without a recovery secret."""
    with OperatorClient(server) as client:
        status = client.request("GET", "/v1/recovery")
    _show(status, as_json)


@recovery_group.command()
@json_option
@server_option
def close(as_json: bool, server: str | None) -> None:
    """Close the recovery before its end."""
    with OperatorClient(server) as client:
        status = client.request("DELETE", "/v1/recovery")
    _show(status, as_json)


def _show(status: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(status)
        return
    recovery = status["recovery"]
    if recovery is None:
        print_line("No recovery was opened.")
    else:
        ends = f"open until {recovery['ends_at'][:19]}" if recovery["open"] else "over"
        print_line(f"The recovery of {recovery['opened_by_name']} ({recovery['opened_at'][:19]}) is {ends}.")
        for agent in recovery["agents"]:
            print_line(f"  {agent['at'][:19]}  {agent['name']}")
    if status["without_secret"]:
        print_line(f"Agents without a recovery secret: {', '.join(status['without_secret'])}")
