"""`onsembl send`: a command for one agent, several or all, and what comes of it."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from onsembl.cli.client.limit_options import limit_options, limits_of
from onsembl.cli.client.presets import filled_in, values_option
from onsembl.cli.client.rest_client import OperatorClient, server_option
from onsembl.cli.client.target_options import target_of, target_options
from onsembl.protocol.states import FINAL_STATES, CommandState

POLL_SECONDS = 0.3
GIVEN_UP = 130
"""What a shell answers for a command that was interrupted."""


@click.command()
@click.argument("text", nargs=-1)
@target_options
@click.option("--preset", metavar="NAME", help="Instead of a text: see `onsembl presets`.")
@values_option
@click.option("--priority", type=click.IntRange(1, 10), help="1 runs first; without one the preset's, or 5.")
@limit_options
@click.option("--wait", is_flag=True, help="Until it is over: prints the output, and ends with its exit code.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@server_option
def send(
    text: tuple[str, ...],
    agents: tuple[str, ...],
    labels: tuple[str, ...],
    everyone: bool,
    preset: str | None,
    values: tuple[str, ...],
    priority: int | None,
    wait: bool,
    as_json: bool,
    server: str | None,
    **limits: Any,
) -> None:
    """Put a command in the lines of agents. TEXT is what an agent is told; - reads it from standard input.

    With --wait, one agent's output is printed and its exit code is this program's; of several it is shown how each has
    ended, and the exit code is 1 unless all have succeeded. Interrupted, it leaves the commands alone.

    Needs `onsembl login`.
    """
    target = target_of(agents, labels, everyone)
    if bool(text) + bool(preset) != 1:
        raise click.UsageError("Say what: a text or a --preset.")
    said = sys.stdin.read() if text == ("-",) else " ".join(text)
    if preset is None and not said.strip():
        raise click.UsageError("There is nothing to send.")
    with OperatorClient(server) as client:
        names = {agent["id"]: agent["name"] for agent in client.ask("GET", "/v1/agents")["agents"]}
        wording = {"text": said} if preset is None else filled_in(client, preset, values)
        body = {**wording, "priority": priority, "limits": limits_of(limits)}
        if len(agents) == 1:
            sent = [client.make(f"/v1/agents/{client.agent_id(agents[0])}/commands", body)]
        else:
            sent = client.make("/v1/groups", {**body, "target": target})["commands"]
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
        click.echo(json.dumps(commands, indent=2))
        return
    for command in commands:
        click.echo(f"{command['id']}  {names.get(command['agent_id'], command['agent_id']):<24} {_said(command)}")


def _follow(
    client: OperatorClient, commands: list[dict[str, Any]], names: dict[str, str], *, quiet: bool
) -> list[dict[str, Any]]:
    """Until all are over; their last rows, in the order in which they were sent."""
    rows = {command["id"]: command for command in commands}
    waiting = list(rows)
    try:
        while waiting:
            for command_id in waiting:
                rows[command_id] = row = client.poll(f"/v1/commands/{command_id}")
                if row["state"] in FINAL_STATES and not quiet:
                    click.echo(f"{names.get(row['agent_id'], row['agent_id']):<24} {_said(row)}")
            waiting = [command_id for command_id in waiting if rows[command_id]["state"] not in FINAL_STATES]
            if waiting:
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        click.echo(f"Not waited for: {len(waiting)}. They go on: onsembl commands cancel ID", err=True)
        sys.exit(GIVEN_UP)
    return list(rows.values())


def _print_output(client: OperatorClient, command: dict[str, Any]) -> None:
    client.fetch(f"/v1/commands/{command['id']}/recording", {"format": "text"}, sys.stdout.buffer.write)
    sys.stdout.flush()
    if command["state"] != CommandState.SUCCEEDED:
        click.echo(_said(command), err=True)


def _said(command: dict[str, Any]) -> str:
    parts = [command["state"]]
    if command["exit_code"]:
        parts.append(f"exit {command['exit_code']}")
    if command["signal"]:
        parts.append(f"signal {command['signal']}")
    if command["error"]:
        parts.append(command["error"])
    return ", ".join(parts)
