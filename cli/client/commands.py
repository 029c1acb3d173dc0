"""`onsembl commands`: what was asked of the fleet; changing what waits, cancelling, noting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import click

from onsembl.cli.client.limit_options import limit_options, limits_of
from onsembl.cli.client.rest_client import OperatorClient, server_option
from onsembl.cli.client.times import moment

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_command_argument = click.argument("command_id", type=click.UUID)


@click.group("commands")
def commands_group() -> None:
    """Look up commands; change what waits, cancel, note. Needs `onsembl login`."""


@commands_group.command("list")
@click.argument("words", nargs=-1)
@click.option("--agent", metavar="NAME", help="Of this agent.")
@click.option("--state", help="In this state, or one of these: running,failed.")
@click.option("--group", type=click.UUID, metavar="ID", help="Of this group: see `onsembl groups`.")
@click.option("--tag", help="With this tag.")
@click.option("--by", help="Asked for by somebody whose name has this in it.")
@click.option("--since", type=moment, help="Not before: 90m, 36h, 7d, 2026-01-31, 2026-01-31T12:00:00Z.")
@click.option("--until", type=moment, help="Before.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@_json_option
@server_option
def list_commands(
    words: tuple[str, ...],
    agent: str | None,
    state: str | None,
    group: object,
    tag: str | None,
    by: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    as_json: bool,
    server: str | None,
) -> None:
    """Commands, newest first; all WORDS occur in the text or the note."""
    found: list[dict[str, Any]] = []
    with OperatorClient(server) as client:
        names = {row["id"]: row["name"] for row in client.ask("GET", "/v1/agents")["agents"]}
        query: dict[str, Any] = {
            "agent_id": client.agent_id(agent) if agent is not None else None,
            "state": state,
            "group_id": group,
            "tag": tag,
            "by": by,
            "since": since.isoformat() if since is not None else None,
            "until": until.isoformat() if until is not None else None,
            "q": " ".join(words) or None,
        }
        before: int | None = None
        while len(found) < limit:
            asked = {**query, "before": before, "limit": min(limit - len(found), 200)}
            page = client.ask("GET", f"/v1/commands?{_encoded(asked)}")
            found += page["commands"]
            before = page["next_before"]
            if before is None:
                break
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for command in found:
        name = names.get(command["agent_id"], "")
        first = command["text"].strip().partition("\n")[0][:80]
        click.echo(f"{command['id']}  {command['created_at'][:19]}  {name:<20} {command['state']:<10} {first}")


@commands_group.command()
@_command_argument
@_json_option
@server_option
def show(command_id: object, as_json: bool, server: str | None) -> None:
    """One command, and where it stands in its line."""
    with OperatorClient(server) as client:
        command = client.ask("GET", f"/v1/commands/{command_id}")
        line = client.ask("GET", f"/v1/agents/{command['agent_id']}/queue")
    place = next((waiting for waiting in line["waiting"] if waiting["command_id"] == command["id"]), None)
    if as_json:
        click.echo(json.dumps({**command, "place": place}, indent=2))
        return
    shown = {name: value for name, value in command.items() if value not in (None, "", [], {})}
    if place is not None:
        shown["ahead"] = place["ahead"]
        if place["starts_in"] is not None:
            shown["starts in"] = f"about {place['starts_in']:.0f} s"
    for name, value in shown.items():
        click.echo(f"{name.replace('_', ' '):<20} {value}")


@commands_group.command()
@_command_argument
@click.option("--reason", help="Why, for the record.")
@_json_option
@server_option
def cancel(command_id: object, reason: str | None, as_json: bool, server: str | None) -> None:
    """Cancel it: at once if it waits; if it runs it is interrupted, and cancelled when its processes are gone."""
    _change(server, "POST", f"/v1/commands/{command_id}/cancel", {"reason": reason}, as_json)


@commands_group.command()
@_command_argument
@click.option("--text", help="What the agent is told.")
@click.option("--priority", type=click.IntRange(1, 10), help="1 runs first.")
@limit_options
@_json_option
@server_option
def edit(
    command_id: object, text: str | None, priority: int | None, as_json: bool, server: str | None, **limits: Any
) -> None:
    """Change it while it waits. Of limits, those that are not named are taken off."""
    given = _given(text=text, priority=priority, limits=limits_of(limits) or None)
    _change(server, "PATCH", f"/v1/commands/{command_id}", given, as_json)


@commands_group.command()
@_command_argument
@click.option("--first", "where", flag_value="first", help="Before all others.")
@click.option("--last", "where", flag_value="last", help="Behind all others.")
@click.option("--before", type=click.UUID, metavar="ID", help="Just before another one.")
@click.option("--after", type=click.UUID, metavar="ID", help="Just behind another one.")
@_json_option
@server_option
def move(
    command_id: object, where: str | None, before: object, after: object, as_json: bool, server: str | None
) -> None:
    """Move it within its agent's line while it waits."""
    if sum(place is not None for place in (where, before, after)) != 1:
        raise click.UsageError("Say where: --first, --last, --before ID or --after ID.")
    body: dict[str, Any] = {"to": where}
    if where is None:
        body = {"to": "before" if before is not None else "after", "other": str(before or after)}
    _change(server, "POST", f"/v1/commands/{command_id}/move", body, as_json)


@commands_group.command()
@_command_argument
@click.option("--text", help="The note; an empty one removes it.")
@click.option("--tag", "tags", multiple=True, help="A tag; all that it has are to be named.")
@click.option("--no-tags", is_flag=True, help="Remove its tags.")
@_json_option
@server_option
def note(
    command_id: object, text: str | None, tags: tuple[str, ...], no_tags: bool, as_json: bool, server: str | None
) -> None:
    """Write a note on it, and tag it."""
    given = _given(note=text, tags=[] if no_tags else list(tags) or None)
    _change(server, "PATCH", f"/v1/commands/{command_id}", given, as_json)


def _given(**fields: object) -> dict[str, object]:
    given = {name: value for name, value in fields.items() if value is not None}
    if not given:
        raise click.UsageError("Say what is to change; see --help.")
    return given


def _encoded(query: Mapping[str, Any]) -> str:
    return urlencode({name: value for name, value in query.items() if value is not None})


def _change(server: str | None, method: str, path: str, body: Mapping[str, Any], as_json: bool) -> None:
    with OperatorClient(server) as client:
        row = client.ask(method, path, dict(body))
    click.echo(json.dumps(row, indent=2) if as_json else f"{row['id']} is {row['state']}.")
