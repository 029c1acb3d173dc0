"""`onsembl send`: send a command to one agent, several or all, and wait for its end."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from onsembl.cli.client.command_state import outcome
from onsembl.cli.client.files import files_options, store_files
from onsembl.cli.client.live_output import LiveOutput
from onsembl.cli.client.options import (
    limit_options,
    limits_of,
    priority_option,
    server_option,
    target_of,
    target_options,
    turn_of,
    turn_options,
)
from onsembl.cli.client.presets import preset_fields, values_option
from onsembl.cli.client.rest_client import OperatorClient, ServerUnavailable
from onsembl.cli.hints import command_line
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line
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
@turn_options
@click.option(
    "--steer", is_flag=True, help="Put the text into the turn that the agent runs now; if none runs, it is the next."
)
@files_options
@click.option(
    "--wait",
    is_flag=True,
    help="Print the output as it arrives, wait for the end, and exit with the command's exit code.",
)
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
    steer: bool,
    files: tuple[Path, ...],
    images: tuple[Path, ...],
    wait: bool,
    as_json: bool,
    server: str | None,
    **options: Any,
) -> None:
    """Send a command to the queues of one or more agents. TEXT is the command; - reads it from standard input.

    A prompt for one agent continues its latest conversation, unless --new or --conversation is given. A preset, and a
    prompt for several agents, begins a new one, unless --continue is given.

    With --steer the text goes into the running turn, at its next step. If that ends first, it is the next command.

    --image shows the model an image; --file gives it a file as a path. Both are copied to the agent's machine until the
    command ends.

    With --wait and one agent, print the command's output as it arrives and exit with its exit code. With several
    agents, print the final state of each command; the exit code is 1 unless all succeeded. Ctrl-C stops waiting, not
    the commands.

    Needs `onsembl login`.
    """
    target = target_of(agents, labels, all_agents)
    if bool(text) + bool(preset) != 1:
        raise click.UsageError("Give either a text or --preset.")
    if steer and len(agents) != 1:
        raise click.UsageError("--steer takes one agent.")
    if steer and (files or images):
        raise click.UsageError("--steer takes no files.")
    given = sys.stdin.read() if text == ("-",) else " ".join(text)
    if preset is None and not given.strip():
        raise click.UsageError("The command text is empty.")
    with OperatorClient(server) as client:
        names = client.agent_names()
        content = {"text": given} if preset is None else preset_fields(client, preset, values)
        turn = turn_of(options)
        if "conversation" not in turn and preset is None and len(agents) == 1:
            turn["conversation"] = "latest"
        body = {**content, "priority": priority, "limits": limits_of(options), **turn}
        if steer:
            body["steer"] = True
        if files or images:
            body["attachments"] = store_files(client, files, images)
        if len(agents) == 1:
            sent = [client.create(f"/v1/agents/{client.agent_id(agents[0])}/commands", body)]
        else:
            sent = client.create("/v1/groups", {**body, "target": target})["commands"]
        if not wait:
            _print(sent, names, as_json)
            return
        output = LiveOutput(client) if len(agents) == 1 and not as_json else None
        ended = _follow(client, sent, names, output, quiet=as_json or output is not None)
        if as_json:
            _print(ended, names, as_json)
        elif output is not None:
            output.finish(ended[0])
            if ended[0]["state"] != CommandState.SUCCEEDED or ended[0]["denied"]:
                print_line(outcome(ended[0]), err=True)
            elif ended[0]["steer_state"] == "taken":
                print_line(outcome(ended[0]))
    if len(agents) == 1 and ended[0]["exit_code"]:
        sys.exit(min(int(ended[0]["exit_code"]), 255))
    sys.exit(0 if all(command["state"] == CommandState.SUCCEEDED for command in ended) else 1)


def _print(commands: list[dict[str, Any]], names: dict[str, str], as_json: bool) -> None:
    if as_json:
        print_json(commands)
        return
    for command in commands:
        name = names.get(command["agent_id"], command["agent_id"])
        print_line(f"{command['id']}  {name:<24} ", outcome(command))
        if (steered := command["steer_state"]) is not None:
            late = "No turn runs: it is the next command."
            print_line(f"  {late if steered == 'late' else 'It goes into the turn of ' + command['steers'] + '.'}")
        elif (turn := command["turn"]) is not None:
            verb = "continues" if turn["known"] else "is in"
            print_line(f"  It {verb} the conversation {command['conversation_id']}.")


def _follow(
    client: OperatorClient,
    commands: list[dict[str, Any]],
    names: dict[str, str],
    output: LiveOutput | None,
    *,
    quiet: bool,
) -> list[dict[str, Any]]:
    """Wait until all commands have ended; return their rows in the order in which they were sent. Print `output`, that
    of a single command, as it arrives."""
    rows = {command["id"]: command for command in commands}
    waiting = list(rows)
    try:
        while waiting:
            for command_id in waiting:
                rows[command_id] = row = client.poll(f"/v1/commands/{command_id}")
                if output is not None and row["state"] not in FINAL_STATES:
                    with suppress(ServerUnavailable):  # the next round reads it
                        output.read(row)
                if row["state"] in FINAL_STATES and not quiet:
                    print_line(f"{names.get(row['agent_id'], row['agent_id']):<24} ", outcome(row))
            waiting = [command_id for command_id in waiting if rows[command_id]["state"] not in FINAL_STATES]
            if waiting:
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        which = waiting[0] if len(waiting) == 1 else "ID"
        cancel = command_line("commands cancel", which)
        continues = "The command continues" if len(waiting) == 1 else f"{len(waiting)} commands continue"
        print_line(f"{continues}. To cancel {'it' if len(waiting) == 1 else 'one'}: {cancel}", err=True)
        sys.exit(INTERRUPTED)
    return list(rows.values())
