"""`onsembl conversations`: list, show, rename, fork, begin anew and import conversations with coding CLIs."""

from __future__ import annotations

import sys
from typing import Any

import click

from onsembl.cli.client.command_state import state_of
from onsembl.cli.client.options import count_option, server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.hints import command_line
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_field, print_line

_conversation_argument = click.argument("conversation_id", type=click.UUID)


@click.group("conversations")
def conversations_group() -> None:
    """List, show, rename, fork, begin anew and import conversations. Needs `onsembl login`."""


@conversations_group.command("list")
@click.argument("words", nargs=-1)
@click.option("--agent", metavar="NAME", help="Only conversations of this agent.")
@count_option
@json_option
@server_option
def list_conversations(
    words: tuple[str, ...], agent: str | None, limit: int, as_json: bool, server: str | None
) -> None:
    """List conversations with WORDS in the title, newest first."""
    with OperatorClient(server) as client:
        names = client.agent_names()
        query = {
            "agent_id": client.agent_id(agent) if agent is not None else None,
            "q": " ".join(words) or None,
        }
        rows = client.collect("/v1/conversations", "conversations", query, limit)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        name = names.get(row["agent_id"], "")
        print_line(f"{row['id']}  {row['active_at'][:19]}  {name:<20} {_size(row):<24} {row['title'][:60]}")


@conversations_group.command()
@_conversation_argument
@json_option
@server_option
def show(conversation_id: object, as_json: bool, server: str | None) -> None:
    """Show a conversation and its turns, newest first."""
    with OperatorClient(server) as client:
        row = client.request("GET", f"/v1/conversations/{conversation_id}")
        turns = client.collect("/v1/commands", "commands", {"conversation_id": conversation_id}, 200)
        names = client.agent_names()
    if as_json:
        print_json({**row, "commands": turns})
        return
    print_line(row["title"])
    print_line(f"{names.get(row['agent_id'], '')}, {row['state']}, {_size(row)}")
    for name in ("cli_id", "own_id", "folder", "branch", "model", "permission_mode", "forked_from"):
        if row[name] is not None:
            print_field(name.replace("_", " "), row[name], width=16)
    if row["context_tokens"] is not None and row["context_window"]:
        share = row["context_tokens"] / row["context_window"]
        use = f"{row['context_tokens']:,} of {row['context_window']:,} tokens ({share:.0%})"
        print_field("context", use, width=16)
    if row["state"] == "forgotten":
        anew = command_line("conversations anew", row["id"])
        print_line(f"The CLI has forgotten it. Begin a new one with its last answer: {anew}")
    number = row["turns"]
    for turn in turns:
        first_line = turn["text"].strip().partition("\n")[0][:80]
        shown = f"{number:>4}" if turn["started_at"] is not None else " " * 4
        number -= turn["started_at"] is not None
        print_line(f"{shown}  {turn['id']}  {turn['created_at'][:19]}  ", state_of(turn), f" {first_line}")


@conversations_group.command()
@_conversation_argument
@click.argument("title")
@json_option
@server_option
def rename(conversation_id: object, title: str, as_json: bool, server: str | None) -> None:
    """Give a conversation another title."""
    _change(server, "PATCH", f"/v1/conversations/{conversation_id}", {"title": title}, as_json)


@conversations_group.command()
@_conversation_argument
@click.option("--turn", "number", type=click.IntRange(1), metavar="N", help="End the copy with this turn, from 1 on.")
@click.option("--title", help="The title of the copy; by default that of the original.")
@json_option
@server_option
def fork(conversation_id: object, number: int | None, title: str | None, as_json: bool, server: str | None) -> None:
    """Begin a conversation as a copy of another one. `onsembl send --conversation` then continues the copy.

    `onsembl conversations show` has the numbers of the turns.
    """
    with OperatorClient(server) as client:
        body = {"title": title}
        if number is not None:
            body["after"] = _turn_id(client, conversation_id, number)
        _print(client.request("POST", f"/v1/conversations/{conversation_id}/fork", body), as_json)


def _turn_id(client: OperatorClient, conversation_id: object, number: int) -> str:
    """The id of the command that is the turn of this number. Raises click.UsageError if there is none."""
    row = client.request("GET", f"/v1/conversations/{conversation_id}")
    if number > row["turns"]:
        raise click.UsageError(f"The conversation has {row['turns']} {'turn' if row['turns'] == 1 else 'turns'}.")
    listed = client.collect("/v1/commands", "commands", {"conversation_id": conversation_id}, sys.maxsize)
    turns = [command["id"] for command in listed if command["started_at"] is not None]
    return turns[-number]


@conversations_group.command()
@_conversation_argument
@click.option("--title", help="The title of the new conversation; by default that of the forgotten one.")
@json_option
@server_option
def anew(conversation_id: object, title: str | None, as_json: bool, server: str | None) -> None:
    """Begin a conversation in the place of one that its CLI has forgotten. Its first prompt begins with the last answer
    of the forgotten one."""
    _change(server, "POST", f"/v1/conversations/{conversation_id}/anew", {"title": title}, as_json)


@conversations_group.command("import")
@click.argument("agent")
@click.argument("cli_id")
@click.option("--title", help="The title of the conversation.")
@json_option
@server_option
def import_conversation(agent: str, cli_id: str, title: str | None, as_json: bool, server: str | None) -> None:
    """Take up a conversation that was begun outside, by the id that AGENT's CLI knows it by."""
    with OperatorClient(server) as client:
        path = f"/v1/agents/{client.agent_id(agent)}/conversations"
        _print(client.request("POST", path, {"cli_id": cli_id, "title": title}), as_json)


def _change(server: str | None, method: str, path: str, body: dict[str, Any], as_json: bool) -> None:
    with OperatorClient(server) as client:
        _print(client.request(method, path, body), as_json)


def _print(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        print_line(f"{row['id']}  {row['title']}")


def _size(row: dict[str, Any]) -> str:
    tokens = f"{'≥' if row['partial'] else ''}{row['tokens']:,} tokens"
    parts = [f"{row['turns']} {'turn' if row['turns'] == 1 else 'turns'}", tokens]
    if row["cost_usd"] is not None:
        parts.append(f"${row['cost_usd']:.2f}")
    return ", ".join(parts)
