"""`onsembl stop`: begin, follow and lift an emergency stop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onsembl.cli.client.access import uses_rest
from onsembl.cli.client.options import reason_option, server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.hints import command_line
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line
from onsembl.cli.server.options import data_dir_option, database_url_option, halt_seconds_option

if TYPE_CHECKING:
    from onsembl.cli.server.halt_database import HaltDatabase

POLL_SECONDS = 0.2
Status = dict[str, Any]


@click.command()
@click.option("--all", "everything", is_flag=True, help="Stop all commands of all agents now.")
@click.option("--lift", is_flag=True, help="Lift the halt, so that commands start again.")
@click.option("--status", "show_status", is_flag=True, help="Show the progress of the stop in force.")
@reason_option
@click.option("--wait", is_flag=True, help="Show the progress of each agent until all have stopped.")
@json_option
@halt_seconds_option
@server_option
@database_url_option
@data_dir_option
def stop(
    everything: bool,
    lift: bool,
    show_status: bool,
    reason: str | None,
    wait: bool,
    as_json: bool,
    halt_seconds: float,
    server: str | None,
    database_url: str | None,
    data_dir: Path,
) -> None:
    """Emergency stop: halt the whole fleet, lift the halt, or show its progress.

    On the control center's own machine this command uses the database directly, so that it works while the API does
    not respond; only there --halt-seconds applies. Elsewhere it uses the REST API and needs `onsembl login`.

    With --wait or --status the exit code is 1 when an agent has not stopped.
    """
    if everything + lift + show_status != 1:
        raise click.UsageError(
            "Give --all to stop everything, --lift to lift the halt, or --status to show the progress."
        )
    if wait and lift:
        raise click.UsageError("--wait cannot be used with --lift.")
    with _halt_access(server, database_url, data_dir, halt_seconds) as access:
        status = access.lift() if lift else access.begin(reason) if everything else access.read()
        if wait and status["halt"] is not None:
            status = _follow(access.watch, status["halt"]["id"], quiet=as_json)
    if as_json:
        print_json(status)
    elif lift:
        print_line("The halt is lifted; commands start again.")
    elif status["halt"] is None:
        print_line("The halt was lifted." if everything else "The fleet is not halted.")
    elif not wait:
        _print(status, each_agent=show_status)
    if (wait and everything and status["halt"] is None) or ((wait or show_status) and not _all_stopped(status)):
        sys.exit(1)


def _print(status: Status, *, each_agent: bool) -> None:
    lift = command_line("stop", "--lift")
    if each_agent:
        for agent in status["agents"]:
            print_line(_line(agent))
        print_line(f"Halted: {_counts(status)}. No command starts until `{lift}`.")
    else:
        print_line(f"Stopping everything: {_counts(status)}. No command starts until `{lift}`.")


def _all_stopped(status: Status) -> bool:
    return all(agent["state"] == "stopped" for agent in status["agents"])


def _follow(read: Callable[[], Status], halt_id: object, *, quiet: bool) -> Status:
    """Wait until each agent has stopped or is not reachable. Without a halt in the status, it was lifted meanwhile."""
    printed: dict[str, str] = {}
    while True:
        status = read()
        if status["halt"] is None or status["halt"]["id"] != halt_id:
            return {"halt": None, "agents": []}
        for agent in status["agents"]:
            line = _line(agent)
            if printed.get(agent["name"]) != line and not quiet:
                print_line(line)
            printed[agent["name"]] = line
        if all(agent["state"] in ("stopped", "not_reached") for agent in status["agents"]):
            if not quiet:
                print_line(f"{_counts(status)}.")
            return status
        time.sleep(POLL_SECONDS)


def _line(agent: Status) -> str:
    words = {
        "stopped": "stopped: no process is left",
        "not_reached": "not reachable: will be stopped when it reconnects",
        "stopping": "stopping",
        "dying": f"not stopped: processes survived SIGKILL: {', '.join(map(str, agent['pids']))}",
    }
    line = f"{agent['name']:<24} {words[agent['state']]}"
    if agent["state"] == "stopping" and agent["step"]:
        line += f" ({agent['step']}, {agent['processes_left']} left)"
    return line


def _counts(status: Status) -> str:
    states = [agent["state"] for agent in status["agents"]]
    named = {"stopped": "stopped", "stopping": "stopping", "dying": "not stopped", "not_reached": "not reachable"}
    return ", ".join(f"{states.count(state)} {name}" for state, name in named.items() if state in states) or "no agent"


class _RestAccess:
    """Uses the REST API as the signed-in operator."""

    def __init__(self, server: str | None) -> None:
        self._client = OperatorClient(server)

    def __enter__(self) -> _RestAccess:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.__exit__()

    def begin(self, reason: str | None) -> Status:
        return self._client.request("POST", "/v1/halt", {"reason": reason})

    def read(self) -> Status:
        return self._client.request("GET", "/v1/halt")

    def watch(self) -> Status:
        """Like `read`, but retries while the API restarts."""
        return self._client.poll("/v1/halt")

    def lift(self) -> Status:
        return self._client.request("DELETE", "/v1/halt")


def _halt_access(
    server: str | None, database_url: str | None, data_dir: Path, halt_seconds: float
) -> _RestAccess | HaltDatabase:
    if uses_rest(server, database_url, data_dir):
        return _RestAccess(server)
    from onsembl.cli.server.database_url import running_database
    from onsembl.cli.server.halt_database import HaltDatabase

    return HaltDatabase(running_database(database_url, data_dir), halt_seconds)
