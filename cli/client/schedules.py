"""`onsembl schedules`: commands that come by themselves, once or again and again."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

import click

from onsembl.cli.client.limit_options import limit_options, limits_of
from onsembl.cli.client.presets import filled_in, values_option
from onsembl.cli.client.rest_client import OperatorClient, server_option
from onsembl.cli.client.target_options import target_of, target_options
from onsembl.cli.client.times import coming
from onsembl.cli.errors import StartError

GIVEN = ("name", "target", "text", "preset", "values", "priority", "limits", "cron", "time_zone", "at")
F = TypeVar("F", bound=Callable[..., Any])

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_name_argument = click.argument("name")


def _content_options(command: F) -> F:
    """What a schedule says, to whom and when."""
    for option in (
        limit_options,
        click.option("--priority", type=click.IntRange(1, 10), help="1 runs first; else the preset's, or 5."),
        values_option,
        click.option("--preset", metavar="NAME", help="A preset instead of a text: see `onsembl presets`."),
        click.option("--text", help="What the agents are told."),
        target_options,
        click.option("--at", type=coming, help="Once, then: 2026-01-31T12:00, 2026-01-31T12:00:00Z, 90m, 2d."),
        click.option("--time-zone", metavar="ZONE", help="In which --cron is meant: Europe/Berlin. Else UTC."),
        click.option("--cron", help="Again and again: '30 6 * * mon-fri'."),
    ):
        command = option(command)
    return command


@click.group("schedules")
def schedules_group() -> None:
    """Commands that come by themselves. Needs `onsembl login`."""


@schedules_group.command("list")
@_json_option
@server_option
def list_schedules(as_json: bool, server: str | None) -> None:
    """Every schedule, by name: when it comes next and what the last one came to."""
    with OperatorClient(server) as client:
        found = client.ask("GET", "/v1/schedules")["schedules"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for schedule in found:
        click.echo(f"{schedule['name']:<24} {_rule(schedule):<36} {_next(schedule):<26} {_result(schedule['last'])}")


@schedules_group.command()
@_name_argument
@_json_option
@server_option
def show(name: str, as_json: bool, server: str | None) -> None:
    """One schedule, and what came of it so far."""
    with OperatorClient(server) as client:
        schedule = _found(client, name)
        runs = client.ask("GET", f"/v1/schedules/{schedule['id']}/runs")["runs"]
    if as_json:
        click.echo(json.dumps({**schedule, "runs": runs}, indent=2))
        return
    click.echo(f"{schedule['name']}: {_rule(schedule)}; next {_next(schedule)}")
    click.echo(f"for {json.dumps(schedule['target'])}, last changed by {schedule['updated_by_name']}")
    if schedule["preset"] is not None:
        click.echo(f"preset {schedule['preset']} {json.dumps(schedule['values'])}")
    else:
        click.echo(schedule["text"])
    for run in runs:
        click.echo(f"  {run['due_at'][:19]}  {_result(run):<30} {run['command_id'] or run['group_id'] or ''}".rstrip())


@schedules_group.command()
@_name_argument
@_content_options
@_json_option
@server_option
def add(name: str, as_json: bool, server: str | None, **options: Any) -> None:
    """Make a schedule: `--cron` or `--at`, for whom, and `--text` or `--preset`."""
    target = target_of(options["agents"], options["labels"], options["everyone"])
    with OperatorClient(server) as client:
        body = {"name": name, "target": target, **_changes(client, options)}
        schedule = client.make("/v1/schedules", body)
    _say(schedule, f"comes next {_next(schedule)}.", as_json)


@schedules_group.command()
@_name_argument
@click.option("--name", "new_name", help="Another name.")
@_content_options
@_json_option
@server_option
def edit(name: str, new_name: str | None, as_json: bool, server: str | None, **options: Any) -> None:
    """Change what is given of a schedule."""
    with OperatorClient(server) as client:
        schedule = _found(client, name)
        body = {field: schedule[field] for field in GIVEN} | {"revision": schedule["revision"]}
        body |= _changes(client, options)
        if new_name is not None:
            body["name"] = new_name
        if options["agents"] or options["labels"] or options["everyone"]:
            body["target"] = target_of(options["agents"], options["labels"], options["everyone"])
        schedule = client.ask("PUT", f"/v1/schedules/{schedule['id']}", body)
    _say(schedule, f"comes next {_next(schedule)}.", as_json)


@schedules_group.command()
@_name_argument
@_json_option
@server_option
def pause(name: str, as_json: bool, server: str | None) -> None:
    """Have it come no more for now."""
    _post(server, name, "pause", "is paused.", as_json)


@schedules_group.command()
@_name_argument
@_json_option
@server_option
def resume(name: str, as_json: bool, server: str | None) -> None:
    """Let it come again; what would have come meanwhile does not."""
    _post(server, name, "resume", "comes again.", as_json)


@schedules_group.command()
@_name_argument
@_json_option
@server_option
def run(name: str, as_json: bool, server: str | None) -> None:
    """Fire it now, besides the times when it is due."""
    _post(server, name, "run", "has fired.", as_json)


@schedules_group.command()
@_name_argument
@_json_option
@server_option
def delete(name: str, as_json: bool, server: str | None) -> None:
    """Remove it; the commands that it made stay."""
    with OperatorClient(server) as client:
        schedule = client.ask("DELETE", f"/v1/schedules/{_found(client, name)['id']}")
    _say(schedule, "is deleted.", as_json)


@schedules_group.command()
@click.argument("cron")
@click.option("--time-zone", metavar="ZONE", default="UTC", show_default=True)
@_json_option
@server_option
def times(cron: str, time_zone: str, as_json: bool, server: str | None) -> None:
    """When a CRON expression would come next."""
    with OperatorClient(server) as client:
        answer = client.ask("GET", f"/v1/schedules/times?{urlencode({'cron': cron, 'time_zone': time_zone})}")
    if answer["problem"] is not None:
        raise StartError(answer["problem"])
    click.echo(json.dumps(answer["times"], indent=2) if as_json else "\n".join(answer["times"]))


def _changes(client: OperatorClient, options: dict[str, Any]) -> dict[str, Any]:
    """What of a schedule's content was given; one way to say it takes the place of the other."""
    changes: dict[str, Any] = {}
    if options["text"] is not None and options["preset"] is not None:
        raise click.UsageError("Say what: --text or --preset.")
    if options["text"] is not None:
        changes |= {"text": options["text"], "preset": None, "values": {}}
    if options["preset"] is not None:
        changes |= {"text": None, **filled_in(client, options["preset"], options["values"])}
    elif options["values"]:
        raise click.UsageError("--set goes with --preset.")
    if options["cron"] is not None and options["at"] is not None:
        raise click.UsageError("Say when: --cron or --at.")
    if options["cron"] is not None:
        changes |= {"cron": options["cron"], "at": None}
    at: datetime | None = options["at"]
    if at is not None:
        changes |= {"cron": None, "at": at.isoformat()}
    for name in ("time_zone", "priority"):
        if options[name] is not None:
            changes[name] = options[name]
    if limits := limits_of(options):
        changes["limits"] = limits
    return changes


def _found(client: OperatorClient, name: str) -> dict[str, Any]:
    for schedule in client.ask("GET", "/v1/schedules")["schedules"]:
        if name == schedule["id"] or name.lower() == schedule["name"].lower():
            return schedule
    raise StartError(f"There is no schedule {name}.")


def _post(server: str | None, name: str, verb: str, said: str, as_json: bool) -> None:
    with OperatorClient(server) as client:
        schedule = client.make(f"/v1/schedules/{_found(client, name)['id']}/{verb}", {})
    if verb == "run" and schedule["last"]["error"] is not None:
        raise StartError(schedule["last"]["error"])
    _say(schedule, said, as_json)


def _say(schedule: dict[str, Any], said: str, as_json: bool) -> None:
    click.echo(json.dumps(schedule, indent=2) if as_json else f"{schedule['name']} {said}")


def _rule(schedule: dict[str, Any]) -> str:
    return f"{schedule['cron']} {schedule['time_zone']}" if schedule["cron"] is not None else f"once {schedule['at']}"


def _next(schedule: dict[str, Any]) -> str:
    return "paused" if schedule["paused_at"] is not None else schedule["next_at"] or "no more"


def _result(last: dict[str, Any] | None) -> str:
    if last is None:
        return "never yet"
    if last["error"] is not None:
        return f"not made: {last['error']}"
    parts = [state if count == 1 else f"{count} {state}" for state, count in last["counts"].items()]
    if last["skipped"]:
        parts.append(f"skipped, the last one still waits for: {' '.join(last['skipped'])}")
    return ", ".join(parts)
