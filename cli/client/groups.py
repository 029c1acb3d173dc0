"""`onsembl groups`: follow and cancel the commands that were sent to several agents at once."""

from __future__ import annotations

import json
from typing import Any

import click

from onsembl.cli.client.command_state import state_of
from onsembl.cli.client.options import count_option, reason_option, server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line, print_lines

_group_argument = click.argument("group_id", type=click.UUID)


@click.group("groups")
def groups() -> None:
    """Follow and cancel commands for several agents. Needs `onsembl login`."""


@groups.command("list")
@count_option
@json_option
@server_option
def list_groups(limit: int, as_json: bool, server: str | None) -> None:
    """List groups with their progress, newest first."""
    with OperatorClient(server) as client:
        rows = client.collect("/v1/groups", "groups", {}, limit)
    if as_json:
        print_json(rows)
        return
    for group in rows:
        first_line = group["text"].strip().partition("\n")[0][:80]
        print_line(f"{group['id']}  {group['created_at'][:19]}  {_progress(group):<36} {first_line}")


@groups.command()
@_group_argument
@json_option
@server_option
def show(group_id: object, as_json: bool, server: str | None) -> None:
    """Show a group: its target and the state of each command."""
    with OperatorClient(server) as client:
        group = client.request("GET", f"/v1/groups/{group_id}")
        names = client.agent_names()
    if as_json:
        print_json(group)
        return
    print_line(f"{_progress(group)}; target {json.dumps(group['target'])}, sent by {group['requested_by_name']}")
    print_lines(group["text"], "  | ")
    for command in group["commands"]:
        name = names.get(command["agent_id"], command["agent_id"])
        print_line(f"  {command['id']}  {name:<20} ", state_of(command), f" {command['error'] or ''}".rstrip())


@groups.command()
@_group_argument
@reason_option
@json_option
@server_option
def cancel(group_id: object, reason: str | None, as_json: bool, server: str | None) -> None:
    """Cancel the unfinished commands of a group."""
    with OperatorClient(server) as client:
        group = client.request("POST", f"/v1/groups/{group_id}/cancel", {"reason": reason})
    if as_json:
        print_json(group)
    else:
        print_line(_progress(group))


def _progress(group: dict[str, Any]) -> str:
    return ", ".join(f"{count} {state}" for state, count in group["counts"].items())
