"""`onsembl send`: send a command to one agent, several or all, and wait for its end."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from onsembl.cli.client.options import (
    limit_options,
    limits_of,
    priority_option,
    server_option,
    target_of,
    target_options,
)
from onsembl.cli.client.presets import preset_fields, values_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.protocol.states import FINAL_STATES, CommandState

POLL_SECONDS = 0.3
INTERRUPTED = 130
"""The exit code that a shell uses after Ctrl-C."""


@click.command()
@click.argument("text", nargs=-1)
@target_options
@click.option("--preset", metavar="NAME", help="Send a preset instead of a text; see `onsembl presets`.")
@values_option
@priority_option
@limit_options
@click.option("--wait", is_flag=True, help="Wait for the end; print the output and exit with the command's exit code.")
@json_option
@server_option
def send(
    text: tuple[str, ...],
    agents: tuple[str, ...],
    labels: tuple[str, ...],
    all_agents: bool,
    preset: str | None,
    values: tuple[str, ...],
    priority: int | None,
    wait: bool,
    as_json: bool,
    server: str | None,
    **limits: Any,
) -> None:
    """Send a command to the queues of one or more agents. TEXT is the command; - reads it from standard input.

    With --wait and one agent, print the command's output and exit with its exit code. With several agents, print the
    final state of each command; the exit code is 1 unless all succeeded. Ctrl-C stops waiting, not the commands.

    Needs `onsembl login`.
    """
    target = target_of(agents, labels, all_agents)
    if bool(text) + bool(preset) != 1:
        raise click.UsageError("Give either a text or --preset.")
    given = sys.stdin.read() if text == ("-",) else " ".join(text)
    if preset is None and not given.strip():
        raise click.UsageError("The command text is empty.")
    with OperatorClient(server) as client:
        names = client.agent_names()
        content = {"text": given} if preset is None else preset_fields(client, preset, values)
        body = {**content, "priority": priority, "limits": limits_of(limits)}
        if len(agents) == 1:
            sent = [client.create(f"/v1/agents/{client.agent_id(agents[0])}/commands", body)]
        else:
            sent = client.create("/v1/groups", {**body, "target": target})["commands"]
        if not wait:
            _print(sent, names, as_json)
            return
        ended = _follow(client, sent, names, quiet=as_json or len(agents) == 1)
        if as_json:
            _print(ended, names, as_json)
        elif len(agents) == 1 and ended[0]["output_end"] is not None:
            _print_output(client, ended[0])
    if len(agents) == 1 and ended[0]["exit_code"]:
        sys.exit(min(int(ended[0]["exit_code"]), 255))
    sys.exit(0 if all(command["state"] == CommandState.SUCCEEDED for command in ended) else 1)


def _print(commands: list[dict[str, Any]], names: dict[str, str], as_json: bool) -> None:
    if as_json:
        print_json(commands)
        return
    for command in commands:
        click.echo(f"{command['id']}  {names.get(command['agent_id'], command['agent_id']):<24} {_outcome(command)}")


def _follow(
    client: OperatorClient, commands: list[dict[str, Any]], names: dict[str, str], *, quiet: bool
) -> list[dict[str, Any]]:
    """Wait until all commands have ended; return their rows in the order in which they were sent."""
    rows = {command["id"]: command for command in commands}
    waiting = list(rows)
    try:
        while waiting:
            for command_id in waiting:
                rows[command_id] = row = client.poll(f"/v1/commands/{command_id}")
                if row["state"] in FINAL_STATES and not quiet:
                    click.echo(f"{names.get(row['agent_id'], row['agent_id']):<24} {_outcome(row)}")
            waiting = [command_id for command_id in waiting if rows[command_id]["state"] not in FINAL_STATES]
            if waiting:
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        click.echo(f"{len(waiting)} commands continue. To cancel one: onsembl commands cancel ID", err=True)
        sys.exit(INTERRUPTED)
    return list(rows.values())


def _print_output(client: OperatorClient, command: dict[str, Any]) -> None:
    client.download(f"/v1/commands/{command['id']}/recording", {"format": "text"}, sys.stdout.buffer.write)
    sys.stdout.flush()
    if command["state"] != CommandState.SUCCEEDED:
        click.echo(_outcome(command), err=True)


def _outcome(command: dict[str, Any]) -> str:
    parts = [command["state"]]
    if command["exit_code"]:
        parts.append(f"exit {command['exit_code']}")
    if command["signal"]:
        parts.append(f"signal {command['signal']}")
    if command["error"]:
        parts.append(command["error"])
    return ", ".join(parts)
