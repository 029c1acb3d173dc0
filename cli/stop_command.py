"""`onsembl stop`: the emergency stop from the command line."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from onsembl.cli.actor import command_line_actor
from onsembl.cli.data_folder import data_dir_option
from onsembl.cli.database_url import database_url_option, running_database
from onsembl.cli.errors import StartError
from onsembl.cli.operator_client import OperatorClient, server_option, signed_in
from onsembl.sql import halts
from onsembl.sql.database import connect
from onsembl.tasks.halt import HALT_SECONDS, begin_halt, halt_status, lift_halt

POLL_SECONDS = 0.2
Status = dict[str, Any]


@click.command()
@click.option("--all", "everything", is_flag=True, help="Stop every command of every agent, now.")
@click.option("--lift", is_flag=True, help="Let the fleet work again.")
@click.option("--reason", help="Why, for the record.")
@click.option("--wait", is_flag=True, help="Show agent by agent how far it has come, until all have stopped.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@server_option
@database_url_option
@data_dir_option
def stop(
    everything: bool,
    lift: bool,
    reason: str | None,
    wait: bool,
    as_json: bool,
    server: str | None,
    database_url: str | None,
    data_dir: Path,
) -> None:
    """Emergency stop: halt the whole fleet, or lift the halt.

    Signed in (`onsembl login`), the REST API is asked. On the control center's own machine the database is used, so
    that it works whatever state the API is in.
    """
    if everything == lift:
        raise click.UsageError("Give --all to stop everything, or --lift to let the fleet work again.")
    with _door(server, database_url, data_dir) as door:
        status = door.lift() if lift else door.begin(reason)
        if wait and everything:
            status = _follow(door.read, quiet=as_json)
    if as_json:
        click.echo(json.dumps(status, indent=2, default=str))
    elif lift:
        click.echo("The fleet works again.")
    elif not wait:
        click.echo(f"Everything is being stopped: {_counts(status)}. Nothing starts until `onsembl stop --lift`.")
    if wait and any(agent["state"] != "stopped" for agent in status["agents"]):
        sys.exit(1)


def _follow(read: Callable[[], Status], *, quiet: bool) -> Status:
    """Until each agent has stopped or cannot be reached."""
    said: dict[str, str] = {}
    while True:
        status = read()
        for agent in status["agents"]:
            line = _line(agent)
            if said.get(agent["name"]) != line and not quiet:
                click.echo(line)
            said[agent["name"]] = line
        if all(agent["state"] in ("stopped", "not_reached") for agent in status["agents"]):
            if not quiet:
                click.echo(f"{_counts(status)}.")
            return status
        time.sleep(POLL_SECONDS)


def _line(agent: Status) -> str:
    words = {
        "stopped": "stopped: nothing runs",
        "not_reached": "not reachable: is stopped the moment it returns",
        "stopping": "stopping",
        "dying": f"still dying: {', '.join(map(str, agent['pids']))}",
    }
    line = f"{agent['name']:<24} {words[agent['state']]}"
    if agent["state"] == "stopping" and agent["step"]:
        line += f" ({agent['step']}, {agent['processes_left']} left)"
    return line


def _counts(status: Status) -> str:
    states = [agent["state"] for agent in status["agents"]]
    named = {"stopped": "stopped", "stopping": "stopping", "dying": "still dying", "not_reached": "not reachable"}
    return ", ".join(f"{states.count(state)} {name}" for state, name in named.items() if state in states) or "no agent"


class _Rest:
    """Through the API, as the operator who is signed in."""

    def __init__(self, server: str | None) -> None:
        self._client = OperatorClient(server)

    def __enter__(self) -> _Rest:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.__exit__()

    def begin(self, reason: str | None) -> Status:
        return self._client.ask("POST", "/v1/halt", {"reason": reason})

    def read(self) -> Status:
        return self._client.ask("GET", "/v1/halt")

    def lift(self) -> Status:
        return self._client.ask("DELETE", "/v1/halt")


class _Database:
    """On the machine of the control center."""

    def __init__(self, database_url: str | None, data_dir: Path) -> None:
        self._url = running_database(database_url, data_dir)

    def __enter__(self) -> _Database:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, reason: str | None) -> Status:
        return asyncio.run(self._begin(reason))

    def read(self) -> Status:
        return asyncio.run(self._read())

    def lift(self) -> Status:
        return asyncio.run(self._lift())

    async def _begin(self, reason: str | None) -> Status:
        async with await connect(self._url, role="onsembl_api") as conn:
            halt = await begin_halt(conn, command_line_actor(), reason, HALT_SECONDS)
            return await halt_status(conn, halt)

    async def _read(self) -> Status:
        async with await connect(self._url, role="onsembl_api") as conn:
            return await halt_status(conn, await halts.in_force(conn))

    async def _lift(self) -> Status:
        async with await connect(self._url, role="onsembl_api") as conn:
            halt = await lift_halt(conn, command_line_actor())
            if halt is None:
                raise StartError("The fleet is not halted.")
            return await halt_status(conn, halt)


def _door(server: str | None, database_url: str | None, data_dir: Path) -> _Rest | _Database:
    if database_url is None and signed_in(server):
        return _Rest(server)
    return _Database(database_url, data_dir)
