"""`onsembl stop`: begin, follow and lift an emergency stop."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import psycopg

from onsembl.cli.client.options import reason_option, server_option
from onsembl.cli.client.rest_client import OperatorClient, signed_in, stored_session
from onsembl.cli.errors import CliError
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.server.actor import command_line_actor
from onsembl.cli.server.data_folder import data_dir_option
from onsembl.cli.server.database_url import database_url_option, running_database
from onsembl.cli.server.options import halt_seconds_option
from onsembl.fleet.halt import begin_halt, halt_status, lift_halt
from onsembl.sql import auth_project, halts
from onsembl.sql.database import connect

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
        click.echo("The halt is lifted; commands start again.")
    elif status["halt"] is None:
        click.echo("The halt was lifted." if everything else "The fleet is not halted.")
    elif not wait:
        _print(status, each_agent=show_status)
    if (wait and everything and status["halt"] is None) or ((wait or show_status) and not _all_stopped(status)):
        sys.exit(1)


def _print(status: Status, *, each_agent: bool) -> None:
    if each_agent:
        for agent in status["agents"]:
            click.echo(_line(agent))
        click.echo(f"Halted: {_counts(status)}. No command starts until `onsembl stop --lift`.")
    else:
        click.echo(f"Stopping everything: {_counts(status)}. No command starts until `onsembl stop --lift`.")


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
                click.echo(line)
            printed[agent["name"]] = line
        if all(agent["state"] in ("stopped", "not_reached") for agent in status["agents"]):
            if not quiet:
                click.echo(f"{_counts(status)}.")
            return status
        time.sleep(POLL_SECONDS)


def _line(agent: Status) -> str:
    words = {
        "stopped": "stopped: no process is left",
        "not_reached": "not reachable: will be stopped when it reconnects",
        "stopping": "stopping",
        "dying": f"still dying, processes {', '.join(map(str, agent['pids']))}",
    }
    line = f"{agent['name']:<24} {words[agent['state']]}"
    if agent["state"] == "stopping" and agent["step"]:
        line += f" ({agent['step']}, {agent['processes_left']} left)"
    return line


def _counts(status: Status) -> str:
    states = [agent["state"] for agent in status["agents"]]
    named = {"stopped": "stopped", "stopping": "stopping", "dying": "still dying", "not_reached": "not reachable"}
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


class _DatabaseAccess:
    """Uses the database, on the control center's machine."""

    def __init__(self, url: str, halt_seconds: float) -> None:
        self._url = url
        self._halt_seconds = halt_seconds

    def __enter__(self) -> _DatabaseAccess:
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
                raise CliError("The fleet is not halted.")
            return await halt_status(conn, halt)


def _halt_access(
    server: str | None, database_url: str | None, data_dir: Path, halt_seconds: float
) -> _RestAccess | _DatabaseAccess:
    if database_url is None and signed_in(server) and not _is_local(server, data_dir):
        return _RestAccess(server)
    return _DatabaseAccess(running_database(database_url, data_dir), halt_seconds)


def _is_local(server: str | None, data_dir: Path) -> bool:
    """Whether the signed-in control center runs on this machine: both have the same publishable key."""
    session = stored_session()
    if session is None or os.environ.get("ONSEMBL_TOKEN") or server not in (None, session.server):
        return False
    try:
        return asyncio.run(_publishable_key(running_database(None, data_dir))) == session.key
    except (CliError, OSError, psycopg.Error):  # the database is another user's, or does not run
        return False


async def _publishable_key(url: str) -> str | None:
    async with await connect(url) as conn:
        return await auth_project.publishable_key(conn)
