"""`onsembl schedules`: manage commands that run once at a time, or repeatedly by a cron expression."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

import click

from onsembl.cli.client.options import (
    future_time,
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
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.errors import CliError
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line, print_lines

FIELDS = (
    *("name", "target", "text", "preset", "values", "priority", "limits", "conversation", "model", "effort"),
    *("permission_mode", "rules"),
    *("cron", "time_zone", "at"),
)
F = TypeVar("F", bound=Callable[..., Any])

_name_argument = click.argument("name")


def _content_options(command: F) -> F:
    """Add the options for the command, the target and the times of a schedule."""
    for option in (
        turn_options,
        limit_options,
        priority_option,
        values_option,
        click.option("--preset", metavar="NAME", help="Send a preset instead of a text; see `onsembl presets`."),
        click.option("--text", help="The command text."),
        target_options,
        click.option(
            "--at",
            type=future_time,
            metavar="TIME",
            help="Run once at this time: 2026-01-31T12:00, 90m (from now), 2d.",
        ),
        click.option(
            "--time-zone", metavar="ZONE", help="The time zone of --cron, such as Europe/Berlin; by default UTC."
        ),
        click.option("--cron", help="Run repeatedly, by a cron expression: '30 6 * * mon-fri'."),
    ):
        command = option(command)
    return command


@click.group("schedules")
def schedules_group() -> None:
    """Manage commands that run on a schedule. Needs `onsembl login`."""


@schedules_group.command("list")
@json_option
@server_option
def list_schedules(as_json: bool, server: str | None) -> None:
    """List schedules by name, with the next time and the last result."""
    with OperatorClient(server) as client:
        schedules = client.request("GET", "/v1/schedules")["schedules"]
    if as_json:
        print_json(schedules)
        return
    for schedule in schedules:
        print_line(f"{schedule['name']:<24} {_rule(schedule):<36} {_next(schedule):<26} {_result(schedule['last'])}")


@schedules_group.command()
@_name_argument
@json_option
@server_option
def show(name: str, as_json: bool, server: str | None) -> None:
    """Show a schedule and its past runs."""
    with OperatorClient(server) as client:
        schedule = _find(client, name)
        runs = client.request("GET", f"/v1/schedules/{schedule['id']}/runs")["runs"]
    if as_json:
        print_json({**schedule, "runs": runs})
        return
    print_line(f"{schedule['name']}: {_rule(schedule)}; next {_next(schedule)}")
    print_line(f"target {json.dumps(schedule['target'])}, last changed by {schedule['updated_by_name']}")
    if schedule["preset"] is not None:
        print_line(f"preset {schedule['preset']} {json.dumps(schedule['values'])}")
    else:
        print_lines(schedule["text"], "  | ")
    for run in runs:
        print_line(f"  {run['due_at'][:19]}  {_result(run):<30} {run['command_id'] or run['group_id'] or ''}".rstrip())


@schedules_group.command()
@_name_argument
@_content_options
@json_option
@server_option
def add(name: str, as_json: bool, server: str | None, **options: Any) -> None:
    """Add a schedule. Give --cron or --at, a target, and --text or --preset."""
    target = target_of(options["agents"], options["labels"], options["all_agents"])
    with OperatorClient(server) as client:
        body = {"name": name, "target": target, **_changes(client, options)}
        schedule = client.create("/v1/schedules", body)
    _print(schedule, f"is saved; next run: {_next(schedule)}.", as_json)


@schedules_group.command()
@_name_argument
@click.option("--name", "new_name", help="Rename the schedule.")
@_content_options
@json_option
@server_option
def edit(name: str, new_name: str | None, as_json: bool, server: str | None, **options: Any) -> None:
    """Edit a schedule. Options that are not given stay as they are."""
    with OperatorClient(server) as client:
        schedule = _find(client, name)
        body = {field: schedule[field] for field in FIELDS} | {"revision": schedule["revision"]}
        body |= _changes(client, options)
        if new_name is not None:
            body["name"] = new_name
        if options["agents"] or options["labels"] or options["all_agents"]:
            body["target"] = target_of(options["agents"], options["labels"], options["all_agents"])
        schedule = client.request("PUT", f"/v1/schedules/{schedule['id']}", body)
    _print(schedule, f"is saved; next run: {_next(schedule)}.", as_json)


@schedules_group.command()
@_name_argument
@json_option
@server_option
def pause(name: str, as_json: bool, server: str | None) -> None:
    """Pause a schedule: it does not run until it is resumed."""
    _post(server, name, "pause", "is paused.", as_json)


@schedules_group.command()
@_name_argument
@json_option
@server_option
def resume(name: str, as_json: bool, server: str | None) -> None:
    """Resume a paused schedule. Runs missed during the pause are not caught up."""
    _post(server, name, "resume", "is resumed.", as_json)


@schedules_group.command()
@_name_argument
@json_option
@server_option
def run(name: str, as_json: bool, server: str | None) -> None:
    """Run a schedule now, in addition to its times."""
    _post(server, name, "run", "has run.", as_json)


@schedules_group.command()
@_name_argument
@json_option
@server_option
def delete(name: str, as_json: bool, server: str | None) -> None:
    """Delete a schedule. Its past commands stay."""
    with OperatorClient(server) as client:
        schedule = client.request("DELETE", f"/v1/schedules/{_find(client, name)['id']}")
    _print(schedule, "is deleted.", as_json)


@schedules_group.command()
@click.argument("cron")
@click.option("--time-zone", metavar="ZONE", default="UTC", show_default=True, help="The time zone of CRON.")
@json_option
@server_option
def times(cron: str, time_zone: str, as_json: bool, server: str | None) -> None:
    """Show the next times of the cron expression CRON."""
    with OperatorClient(server) as client:
        answer = client.request("GET", f"/v1/schedules/times?{urlencode({'cron': cron, 'time_zone': time_zone})}")
    if answer["problem"] is not None:
        raise CliError(answer["problem"])
    if as_json:
        print_json(answer["times"])
    else:
        print_lines("\n".join(answer["times"]))


def _changes(client: OperatorClient, options: dict[str, Any]) -> dict[str, Any]:
    """The fields to change: a text replaces a preset, a cron expression replaces a time, and the reverse."""
    changes: dict[str, Any] = {}
    if options["text"] is not None and options["preset"] is not None:
        raise click.UsageError("Give either --text or --preset.")
    if options["text"] is not None:
        changes |= {"text": options["text"], "preset": None, "values": {}}
    if options["preset"] is not None:
        changes |= {"text": None, **preset_fields(client, options["preset"], options["values"])}
    elif options["values"]:
        raise click.UsageError("--set requires --preset.")
    if options["cron"] is not None and options["at"] is not None:
        raise click.UsageError("Give either --cron or --at.")
    if options["cron"] is not None:
        changes |= {"cron": options["cron"], "at": None}
    at: datetime | None = options["at"]
    if at is not None:
        changes |= {"cron": None, "at": at.isoformat()}
    for name in ("time_zone", "priority"):
        if options[name] is not None:
            changes[name] = options[name]
    changes |= turn_of(options)
    if limits := limits_of(options):
        changes["limits"] = limits
    return changes


def _find(client: OperatorClient, name: str) -> dict[str, Any]:
    for schedule in client.request("GET", "/v1/schedules")["schedules"]:
        if name == schedule["id"] or name.lower() == schedule["name"].lower():
            return schedule
    raise CliError(f"There is no schedule {name}.")


def _post(server: str | None, name: str, action: str, message: str, as_json: bool) -> None:
    with OperatorClient(server) as client:
        schedule = client.create(f"/v1/schedules/{_find(client, name)['id']}/{action}", {})
    if action == "run" and schedule["last"]["error"] is not None:
        raise CliError(schedule["last"]["error"])
    _print(schedule, message, as_json)


def _print(schedule: dict[str, Any], message: str, as_json: bool) -> None:
    if as_json:
        print_json(schedule)
    else:
        print_line(f"Schedule {schedule['name']} {message}")


def _rule(schedule: dict[str, Any]) -> str:
    return f"{schedule['cron']} {schedule['time_zone']}" if schedule["cron"] is not None else f"once {schedule['at']}"


def _next(schedule: dict[str, Any]) -> str:
    return "paused" if schedule["paused_at"] is not None else schedule["next_at"] or "none"


def _result(last: dict[str, Any] | None) -> str:
    if last is None:
        return "no run yet"
    if last["error"] is not None:
        return f"failed: {last['error']}"
    parts = [state if count == 1 else f"{count} {state}" for state, count in last["counts"].items()]
    if last["skipped"]:
        parts.append(f"skipped (the previous command is still queued) for: {' '.join(last['skipped'])}")
    return ", ".join(parts)
