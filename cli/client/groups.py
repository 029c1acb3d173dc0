"""`onsembl groups`: what was sent to several agents at once, followed and cancelled as one."""

from __future__ import annotations

import json
from typing import Any

import click

from onsembl.cli.client.rest_client import OperatorClient, server_option

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_group_argument = click.argument("group_id", type=click.UUID)


@click.group("groups")
def groups() -> None:
    """What was sent to several agents at once. Needs `onsembl login`."""


@groups.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@_json_option
@server_option
def list_groups(limit: int, as_json: bool, server: str | None) -> None:
    """Groups, newest first, and how far each has come."""
    found: list[dict[str, Any]] = []
    with OperatorClient(server) as client:
        before = ""
        while len(found) < limit:
            page = client.ask("GET", f"/v1/groups?limit={min(limit - len(found), 200)}{before}")
            found += page["groups"]
            if page["next_before"] is None:
                break
            before = f"&before={page['next_before']}"
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for group in found:
        first = group["text"].strip().partition("\n")[0][:80]
        click.echo(f"{group['id']}  {group['created_at'][:19]}  {_counted(group):<36} {first}")


@groups.command()
@_group_argument
@_json_option
@server_option
def show(group_id: object, as_json: bool, server: str | None) -> None:
    """One group: for whom it was, and what became of each command."""
    with OperatorClient(server) as client:
        group = client.ask("GET", f"/v1/groups/{group_id}")
        names = {row["id"]: row["name"] for row in client.ask("GET", "/v1/agents")["agents"]}
    if as_json:
        click.echo(json.dumps(group, indent=2))
        return
    click.echo(f"{_counted(group)}; for {json.dumps(group['target'])}, asked for by {group['requested_by_name']}")
    click.echo(group["text"])
    for command in group["commands"]:
        name = names.get(command["agent_id"], command["agent_id"])
        click.echo(f"  {command['id']}  {name:<20} {command['state']:<10} {command['error'] or ''}".rstrip())


@groups.command()
@_group_argument
@click.option("--reason", help="Why, for the record.")
@_json_option
@server_option
def cancel(group_id: object, reason: str | None, as_json: bool, server: str | None) -> None:
    """Cancel what of it is not over: what waits at once; what runs when its processes are gone."""
    with OperatorClient(server) as client:
        group = client.ask("POST", f"/v1/groups/{group_id}/cancel", {"reason": reason})
    click.echo(json.dumps(group, indent=2) if as_json else _counted(group))


def _counted(group: dict[str, Any]) -> str:
    return ", ".join(f"{count} {state}" for state, count in group["counts"].items())
