"""`onsembl commands trace`: the steps of a command's turn as a tree, once or while they come."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import UUID

import click

from onsembl.cli.client.options import server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import Styled, print_line, styled
from onsembl.protocol.states import FINAL_STATES

POLL_SECONDS = 0.5
LAST_STEPS_SECONDS = 3.0
"""How long a command that has ended is asked for the step of its result, which a killed one does not have."""
PAGE = 1000
MAX_DEPTH = 8
_MARKS = {"completed": "✓", "failed": "✗", "in_progress": "…", "pending": "…"}
_COLOURS = {"completed": "green", "failed": "red", "in_progress": "yellow", "pending": "yellow"}


@click.command()
@click.argument("command_id", type=click.UUID)
@click.option("--follow", is_flag=True, help="Print further steps as they come, until the command ends.")
@click.option("--step", "number", type=click.IntRange(1), metavar="NUMBER", help="Print one step, whole.")
@json_option
@server_option
def trace(command_id: UUID, follow: bool, number: int | None, as_json: bool, server: str | None) -> None:
    """Show what a coding agent did in a command: messages, tool calls, plans, and how the turn ended.

    With --follow a step is printed again when it has changed; with --json, too, each is a line.
    """
    with OperatorClient(server) as client:
        if number is not None:
            _print_whole(client.request("GET", f"/v1/commands/{command_id}/steps/{number}"), as_json)
            return
        depths: dict[int, int] = {}
        after = 0
        ended_at: float | None = None
        newest: tuple[int, str] = (0, "")
        while True:
            if follow and ended_at is None:
                command = client.poll(f"/v1/commands/{command_id}")
                if command["state"] in FINAL_STATES:
                    ended_at = time.monotonic()
                    newest = newest if command["turn"] is not None else (0, "result")  # a shell has no steps
            steps = _changed_after(client, command_id, after)
            after = max([after, *(step["changed"] for step in steps)])
            if as_json and not follow:
                print_json(steps)
                return
            for step in steps:
                if as_json:
                    print_line(json.dumps(step))
                else:
                    _print(step, depths)
            newest = max([newest, *((step["number"], step["kind"]) for step in steps)])
            if not follow or (ended_at is not None and not steps and _are_all(newest[1], ended_at)):
                return
            time.sleep(POLL_SECONDS)


def _are_all(last: str, ended_at: float) -> bool:
    """Whether no step will come: steps may arrive after the end of the command, and the last is its result."""
    return last == "result" or time.monotonic() - ended_at > LAST_STEPS_SECONDS


def _changed_after(client: OperatorClient, command_id: UUID, after: int) -> list[dict[str, Any]]:
    """Every step that has changed after the change `after`, by number."""
    steps: list[dict[str, Any]] = []
    place: int | None = after
    while place is not None:
        page = client.poll(f"/v1/commands/{command_id}/steps?after={place}&limit={PAGE}")
        steps += page["steps"]
        place = page["next_after"]
    return sorted(steps, key=lambda step: step["number"])


def _print(step: dict[str, Any], depths: dict[int, int]) -> None:
    depth = min(MAX_DEPTH, depths.get(step["parent"], -1) + 1)
    depths[step["number"]] = depth
    print_line(f"{step['number']:>5} {'  ' * depth}", _mark(step), " ", _what(step))


def _mark(step: dict[str, Any]) -> Styled:
    mark, colour = ("⊘", "yellow") if step["denied"] else (_MARKS[step["status"]], _COLOURS[step["status"]])
    return styled(mark, fg=colour)


def _what(step: dict[str, Any]) -> str:
    what = step["name"] if step["kind"] == "tool" else step["kind"]
    parts = [f"{what}: {step['title']}" if step["title"] else what]
    if step["denied"]:
        parts.append(f"not allowed, {step['result']}" if step["result"] else "not allowed")
    elif step["kind"] == "result":
        parts += [f"{step['tokens']:,} tokens"] if step["tokens"] is not None else []
        parts += [f"${step['cost_usd']:.4f}"] if step["cost_usd"] is not None else []
    return " · ".join(parts)


def _print_whole(step: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(step)
        return
    _print(step, {})
    for name in ("text", "result"):
        for line in step[name].splitlines():
            print_line(f"  {line}")
        if step[f"{name}_omitted"]:
            print_line(f"  … {step[f'{name}_omitted']:,} more bytes were not stored")
