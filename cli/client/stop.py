"""`onsembl stop`: the emergency stop from the command line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import psycopg

from onsembl.cli.client.rest_client import OperatorClient, server_option, signed_in, stored_session
from onsembl.cli.errors import StartError
from onsembl.cli.server.actor import command_line_actor
from onsembl.cli.server.data_folder import data_dir_option
from onsembl.cli.server.database_url import database_url_option, running_database
from onsembl.cli.server.halt_seconds import halt_seconds_option
from onsembl.fleet.halt import begin_halt, halt_status, lift_halt
from onsembl.sql import auth_project, halts
from onsembl.sql.database import connect

POLL_SECONDS = 0.2
Status = dict[str, Any]


@click.command()
@click.option("--all", "everything", is_flag=True, help="Stop every command of every agent, now.")
@click.option("--lift", is_flag=True, help="Let the fleet work again.")
@click.option("--status", "ask", is_flag=True, help="Show how far the stop in force has come, and change nothing.")
@click.option("--reason", help="Why, for the record.")
@click.option("--wait", is_flag=True, help="Show agent by agent how far it has come, until all have stopped.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@halt_seconds_option
@server_option
@database_url_option
@data_dir_option
def stop(
    everything: bool,
    lift: bool,
    ask: bool,
    reason: str | None,
    wait: bool,
    as_json: bool,
    halt_seconds: float,
    server: str | None,
    database_url: str | None,
    data_dir: Path,
) -> None:
    """Emergency stop: halt the whole fleet, lift the halt, or see how far it has come.

    On the control center's own machine the database is used, so that it works whatever state the API is in; there
    --halt-seconds counts. Elsewhere the REST API is asked, with the session of `onsembl login`.

    With --wait or --status the exit code is 1 when an agent has not stopped.
    """
    if everything + lift + ask != 1:
        raise click.UsageError(
            "Give --all to stop everything, --lift to let the fleet work again, or --status to see how far it is."
        )
    if wait and lift:
        raise click.UsageError("--wait has nothing to wait for when the halt is lifted.")
    with _door(server, database_url, data_dir, halt_seconds) as door:
        status = door.lift() if lift else door.begin(reason) if everything else door.read()
        if wait and status["halt"] is not None:
            status = _follow(door.watch, status["halt"]["id"], quiet=as_json)
    if as_json:
        click.echo(json.dumps(status, indent=2, default=str))
    elif lift:
        click.echo("The fleet works again.")
    elif status["halt"] is None:
        click.echo("The halt was lifted." if everything else "The fleet is not halted.")
    elif not wait:
        _say(status, in_full=ask)
    if (wait and everything and status["halt"] is None) or ((wait or ask) and not _all_stopped(status)):
        sys.exit(1)


def _say(status: Status, *, in_full: bool) -> None:
    if in_full:
        for agent in status["agents"]:
            click.echo(_line(agent))
        click.echo(f"Halted: {_counts(status)}. Nothing starts until `onsembl stop --lift`.")
    else:
        click.echo(f"Everything is being stopped: {_counts(status)}. Nothing starts until `onsembl stop --lift`.")


def _all_stopped(status: Status) -> bool:
    return all(agent["state"] == "stopped" for agent in status["agents"])


def _follow(read: Callable[[], Status], halt_id: object, *, quiet: bool) -> Status:
    """Until each agent has stopped or cannot be reached, or this halt is in force no longer: then there is none."""
    said: dict[str, str] = {}
    while True:
        status = read()
        if status["halt"] is None or status["halt"]["id"] != halt_id:
            return {"halt": None, "agents": []}
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

    def watch(self) -> Status:
        """As `read`, again and again: an API that starts anew meanwhile is waited for."""
        return self._client.poll("/v1/halt")

    def lift(self) -> Status:
        return self._client.ask("DELETE", "/v1/halt")


class _Database:
    """On the machine of the control center."""

    def __init__(self, url: str, halt_seconds: float) -> None:
        self._url = url
        self._halt_seconds = halt_seconds

    def __enter__(self) -> _Database:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, reason: str | None) -> Status:
        return asyncio.run(self._begin(reason))

    def read(self) -> Status:
        return asyncio.run(self._read())

    watch = read

    def lift(self) -> Status:
        return asyncio.run(self._lift())

    async def _begin(self, reason: str | None) -> Status:
        async with await connect(self._url, role="onsembl_api") as conn:
            halt, _ = await begin_halt(conn, command_line_actor(), reason, self._halt_seconds)
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


def _door(server: str | None, database_url: str | None, data_dir: Path, halt_seconds: float) -> _Rest | _Database:
    if database_url is None and signed_in(server) and not _is_here(server, data_dir):
        return _Rest(server)
    return _Database(running_database(database_url, data_dir), halt_seconds)


def _is_here(server: str | None, data_dir: Path) -> bool:
    """Whether the control center that one is signed in at runs on this machine, by the key that it gave out."""
    session = stored_session()
    if session is None or os.environ.get("ONSEMBL_TOKEN") or server not in (None, session.server):
        return False
    try:
        return asyncio.run(_key(running_database(None, data_dir))) == session.key
    except (StartError, OSError, psycopg.Error):  # it is not for this user, or is another
        return False


async def _key(url: str) -> str | None:
    async with await connect(url) as conn:
        return await auth_project.publishable_key(conn)
