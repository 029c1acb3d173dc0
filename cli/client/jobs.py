"""`onsembl jobs`: the queue behind the commands: what failed, what stands still, who works."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import click

from onsembl.cli.client.rest_client import OperatorClient, server_option

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
STATES = ("waiting", "running", "stalled", "failed", "succeeded", "cancelled", "aborted")
UNSETTLED = ("waiting", "running", "stalled", "failed")


@click.group("jobs")
def jobs_group() -> None:
    """Look at the queue: jobs, periodic tasks, workers. Needs `onsembl login`."""


@jobs_group.command("list")
@click.option(
    "--state",
    "states",
    type=click.Choice(STATES),
    multiple=True,
    help="In this state; may be given again. Without it: what is not over, and what has failed.",
)
@click.option("--all", "every", is_flag=True, help="In any state.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@_json_option
@server_option
def list_jobs(states: tuple[str, ...], every: bool, limit: int, as_json: bool, server: str | None) -> None:
    """Jobs, newest first, and why they failed. A stalled job's worker is gone: another takes it over shortly."""
    found: list[dict[str, Any]] = []
    wanted = STATES if every else states or UNSETTLED
    with OperatorClient(server) as client:
        before: int | None = None
        while len(found) < limit:
            query: dict[str, Any] = {"state": ",".join(wanted), "limit": min(limit - len(found), 200)}
            if before is not None:
                query["before"] = before
            page = client.ask("GET", f"/v1/jobs?{urlencode(query)}")
            found += page["jobs"]
            before = page["next_before"]
            if before is None:
                break
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for job in found:
        since = job["ended_at"] or job["started_at"] or job["created_at"] or ""
        about = f"{job['agent']} {job['command_id']}" if job["command_id"] is not None else ""
        attempts = f"attempt {job['attempts'] + 1}" if job["state"] in ("waiting", "running", "stalled") else ""
        line = f"{job['id']:>8}  {since[:19]:<19}  {job['state']:<9} {_short(job['task']):<18} {attempts:<10} {about}"
        click.echo(line.rstrip())
        if job["error"] is not None:
            click.echo(f"{'':>10}{job['error']}")


@jobs_group.command()
@_json_option
@server_option
def periodic(as_json: bool, server: str | None) -> None:
    """The tasks that come by themselves: how often, when last and next. Times are in UTC."""
    with OperatorClient(server) as client:
        tasks = client.ask("GET", "/v1/jobs/periodic")["tasks"]
    if as_json:
        click.echo(json.dumps(tasks, indent=2))
        return
    for task in tasks:
        job = task["last_job"]
        last = f"last {task['last_due_at'][:16]}" if task["last_due_at"] is not None else "never yet"
        if job is not None:
            last += f" {job['state']}"
        click.echo(f"{_short(task['name']):<18} {task['cron']:<12} {last:<32} next {task['next_at'][:16]}")
        if job is not None and job["error"] is not None:
            click.echo(f"{'':<18} {job['error']}")


@jobs_group.command()
@_json_option
@server_option
def workers(as_json: bool, server: str | None) -> None:
    """The workers, and when each was heard last. The exit code is 1 when none is alive."""
    with OperatorClient(server) as client:
        found = client.ask("GET", "/v1/jobs/workers")["workers"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for worker in found:
            state = "alive" if worker["alive"] else "dead"
            click.echo(f"{worker['id']:>6}  {state:<6} heard {worker['heartbeat_at'][:19]}  {worker['jobs']} jobs")
    if not any(worker["alive"] for worker in found):
        click.echo("No worker is alive: nothing that is sent is started.", err=True)
        raise SystemExit(1)


@jobs_group.command()
@click.argument("job_id", type=click.IntRange(1))
@_json_option
@server_option
def retry(job_id: int, as_json: bool, server: str | None) -> None:
    """Run a periodic job that has failed again. A command's job is not: send the command again. Needs an admin."""
    with OperatorClient(server) as client:
        job = client.ask("POST", f"/v1/jobs/{job_id}/retry", {})
    click.echo(json.dumps(job, indent=2) if as_json else f"{job['id']} ({_short(job['task'])}) is {job['state']}.")


def _short(task: str) -> str:
    return task.removeprefix("onsembl:")
