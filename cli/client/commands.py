"""`onsembl commands`: list, show, edit, move, annotate and cancel commands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from onsembl.cli.client.command_state import state_of
from onsembl.cli.client.options import (
    count_option,
    limit_options,
    limits_of,
    reason_option,
    server_option,
    since_option,
    until_option,
)
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.client.trace import trace
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_field, print_line

_command_argument = click.argument("command_id", type=click.UUID)


@click.group("commands")
def commands_group() -> None:
    """List, edit, move, cancel and annotate commands. Needs `onsembl login`."""


@commands_group.command("list")
@click.argument("words", nargs=-1)
@click.option("--agent", metavar="NAME", help="Only commands of this agent.")
@click.option("--state", help="Only commands in this state; several with commas: running,failed.")
@click.option("--group", type=click.UUID, metavar="ID", help="Only commands of this group; see `onsembl groups`.")
@click.option("--tag", help="Only commands with this tag.")
@click.option("--by", help="Only commands whose sender's name contains this text.")
@since_option
@until_option
@count_option
@json_option
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
    """List commands whose text or note contains all WORDS, newest first."""
    with OperatorClient(server) as client:
        names = client.agent_names()
        query = {
            "agent_id": client.agent_id(agent) if agent is not None else None,
            "state": state,
            "group_id": group,
            "tag": tag,
            "by": by,
            "since": since.isoformat() if since is not None else None,
            "until": until.isoformat() if until is not None else None,
            "q": " ".join(words) or None,
        }
        rows = client.collect("/v1/commands", "commands", query, limit)
    if as_json:
        print_json(rows)
        return
    for command in rows:
        name = names.get(command["agent_id"], "")
        first_line = command["text"].strip().partition("\n")[0][:80]
        print_line(f"{command['id']}  {command['created_at'][:19]}  {name:<20} ", state_of(command), f" {first_line}")


@commands_group.command()
@_command_argument
@json_option
@server_option
def show(command_id: object, as_json: bool, server: str | None) -> None:
    """Show a command and its position in the queue."""
    with OperatorClient(server) as client:
        command = client.request("GET", f"/v1/commands/{command_id}")
        queue = client.request("GET", f"/v1/agents/{command['agent_id']}/queue")
    place = next((waiting for waiting in queue["waiting"] if waiting["command_id"] == command["id"]), None)
    if as_json:
        print_json({**command, "place": place})
        return
    shown = {name: value for name, value in command.items() if value not in (None, "", [], {})}
    if place is not None:
        shown["ahead"] = place["ahead"]
        if place["starts_in"] is not None:
            shown["starts in"] = f"about {place['starts_in']:.0f} s"
    for name, value in shown.items():
        print_field(name.replace("_", " "), value)


@commands_group.command()
@_command_argument
@reason_option
@json_option
@server_option
def cancel(command_id: object, reason: str | None, as_json: bool, server: str | None) -> None:
    """Cancel a command.

    A queued command is cancelled at once. A running command is interrupted, and cancelled when its processes are gone.
    """
    _change(server, "POST", f"/v1/commands/{command_id}/cancel", {"reason": reason}, as_json)


@commands_group.command()
@_command_argument
@click.option("--text", help="The new command text.")
@click.option("--priority", type=click.IntRange(1, 10), help="The new priority, from 1 (first) to 10.")
@limit_options
@json_option
@server_option
def edit(
    command_id: object, text: str | None, priority: int | None, as_json: bool, server: str | None, **limits: Any
) -> None:
    """Edit a queued command. New limits replace all existing limits."""
    given = _given(text=text, priority=priority, limits=limits_of(limits) or None)
    _change(server, "PATCH", f"/v1/commands/{command_id}", given, as_json)


@commands_group.command()
@_command_argument
@click.option("--first", "where", flag_value="first", help="To the front of the queue.")
@click.option("--last", "where", flag_value="last", help="To the end of the queue.")
@click.option("--before", type=click.UUID, metavar="ID", help="Directly before this command.")
@click.option("--after", type=click.UUID, metavar="ID", help="Directly after this command.")
@json_option
@server_option
def move(
    command_id: object, where: str | None, before: object, after: object, as_json: bool, server: str | None
) -> None:
    """Move a queued command within its agent's queue."""
    if sum(place is not None for place in (where, before, after)) != 1:
        raise click.UsageError("Give one position: --first, --last, --before ID or --after ID.")
    body: dict[str, Any] = {"to": where}
    if where is None:
        body = {"to": "before" if before is not None else "after", "other": str(before or after)}
    _change(server, "POST", f"/v1/commands/{command_id}/move", body, as_json)


@commands_group.command()
@_command_argument
@click.argument("agent")
@json_option
@server_option
def reassign(command_id: object, agent: str, as_json: bool, server: str | None) -> None:
    """Send a queued command to another agent. A prompt begins a new conversation there."""
    with OperatorClient(server) as client:
        body = {"agent_id": client.agent_id(agent)}
        command = client.request("POST", f"/v1/commands/{command_id}/reassign", body)
    if as_json:
        print_json(command)
    else:
        print_line(f"Command {command['id']} of {agent} is {command['state']}, in the place of {command_id}.")


@commands_group.command()
@_command_argument
@click.option("--text", help="The note; an empty text removes it.")
@click.option("--tag", "tags", multiple=True, help="Set a tag (repeat for several); replaces the existing tags.")
@click.option("--no-tags", is_flag=True, help="Remove all tags.")
@json_option
@server_option
def note(
    command_id: object, text: str | None, tags: tuple[str, ...], no_tags: bool, as_json: bool, server: str | None
) -> None:
    """Set a command's note and tags."""
    given = _given(note=text, tags=[] if no_tags else list(tags) or None)
    _change(server, "PATCH", f"/v1/commands/{command_id}", given, as_json)


def _given(**fields: object) -> dict[str, object]:
    given = {name: value for name, value in fields.items() if value is not None}
    if not given:
        raise click.UsageError("Give at least one change; see --help.")
    return given


def _change(server: str | None, method: str, path: str, body: Mapping[str, Any], as_json: bool) -> None:
    with OperatorClient(server) as client:
        command = client.request(method, path, dict(body))
    if as_json:
        print_json(command)
    else:
        print_line(f"Command {command['id']} is {command['state']}.")


commands_group.add_command(trace)
