"""`onsembl jobs`: the jobs of the workers, the periodic tasks and the workers themselves."""

from __future__ import annotations

import click

from onsembl.cli.client.options import count_option, server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line

STATES = ("waiting", "running", "stalled", "failed", "succeeded", "cancelled", "aborted")
UNSETTLED = ("waiting", "running", "stalled", "failed")
"""States that `onsembl jobs list` shows by default."""


@click.group("jobs")
def jobs_group() -> None:
    """List jobs, periodic tasks and workers. Needs `onsembl login`."""


@jobs_group.command("list")
@click.option(
    "--state",
    "states",
    type=click.Choice(STATES),
    multiple=True,
    help="Only jobs in this state (repeat for several). By default: unfinished and failed jobs.",
)
@click.option("--all", "all_states", is_flag=True, help="Jobs in every state.")
@count_option
@json_option
@server_option
def list_jobs(states: tuple[str, ...], all_states: bool, limit: int, as_json: bool, server: str | None) -> None:
    """List jobs with their errors, newest first.

    The worker of a stalled job is dead; another worker takes the job over shortly.
    """
    query = {"state": ",".join(STATES if all_states else states or UNSETTLED)}
    with OperatorClient(server) as client:
        jobs = client.collect("/v1/jobs", "jobs", query, limit)
    if as_json:
        print_json(jobs)
        return
    for job in jobs:
        since = job["ended_at"] or job["started_at"] or job["created_at"] or ""
        command = f"{job['agent']} {job['command_id']}" if job["command_id"] is not None else ""
        attempt = f"attempt {job['attempts'] + 1}" if job["state"] in ("waiting", "running", "stalled") else ""
        line = f"{job['id']:>8}  {since[:19]:<19}  {job['state']:<9} {_short(job['task']):<18} {attempt:<10} {command}"
        print_line(line.rstrip())
        if job["error"] is not None:
            print_line(f"{'':>10}{job['error']}")


@jobs_group.command()
@json_option
@server_option
def periodic(as_json: bool, server: str | None) -> None:
    """List periodic tasks with their last and next run, in UTC."""
    with OperatorClient(server) as client:
        tasks = client.request("GET", "/v1/jobs/periodic")["tasks"]
    if as_json:
        print_json(tasks)
        return
    for task in tasks:
        job = task["last_job"]
        last = f"last {task['last_due_at'][:16]}" if task["last_due_at"] is not None else "no run yet"
        if job is not None:
            last += f" {job['state']}"
        print_line(f"{_short(task['name']):<18} {task['cron']:<12} {last:<32} next {task['next_at'][:16]}")
        if job is not None and job["error"] is not None:
            print_line(f"{'':<18} {job['error']}")


@jobs_group.command()
@json_option
@server_option
def workers(as_json: bool, server: str | None) -> None:
    """List workers with their last heartbeat. The exit code is 1 when no worker is alive."""
    with OperatorClient(server) as client:
        answer = client.request("GET", "/v1/jobs/workers")
    rows = answer["workers"]
    if as_json:
        print_json(rows)
    else:
        for worker in rows:
            state = "alive" if worker["alive"] else "dead"
            print_line(f"{worker['id']:>6}  {state:<6} heartbeat {worker['heartbeat_at'][:19]}  {worker['jobs']} jobs")
        print_line(f"{answer['load']} jobs run or can start; {answer['wanted']} workers are wanted.")
    if not any(worker["alive"] for worker in rows):
        print_line("No worker is alive: queued commands do not start.", err=True)
        raise SystemExit(1)


@jobs_group.command()
@click.argument("job_id", type=click.IntRange(1))
@json_option
@server_option
def retry(job_id: int, as_json: bool, server: str | None) -> None:
    """Run a failed periodic job again. Needs an admin. To repeat a command, send it again."""
    with OperatorClient(server) as client:
        job = client.request("POST", f"/v1/jobs/{job_id}/retry", {})
    if as_json:
        print_json(job)
    else:
        print_line(f"Job {job['id']} ({_short(job['task'])}) is {job['state']}.")


def _short(task: str) -> str:
    return task.removeprefix("onsembl:")
