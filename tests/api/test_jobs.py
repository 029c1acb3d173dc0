"""The job queue over the REST API and the command line: jobs, periodic tasks, workers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from procrastinate import App, PsycopgConnector
from support.agents import Operator, until
from support.api_calls import audit_entries, call_api
from support.command_line import CommandLine
from support.server import Api, running

from onsembl.protocol.states import Role
from onsembl.sql.database import connect
from onsembl.tasks.app import KEEP_ARCHIVE, PERIODIC

PATH = "/v1/jobs"


@pytest.fixture
async def idle(settings):
    """An API without a worker, so that jobs keep their state."""
    async with running(replace(settings, worker=None)) as api:
        yield api


async def put(api: Api, status: str, task: str = KEEP_ARCHIVE, worker: str = "null", **arguments: str) -> int:
    """Create a job in the state in which a worker left it."""
    async with await connect(api.database_url, autocommit=True) as conn:
        cursor = await conn.execute(
            f"""insert into procrastinate_jobs (queue_name, task_name, args, status, worker_id)
                values ('default', %s, %s, %s, {worker}) returning id""",
            [task, json.dumps(arguments), status],
        )
        row = await cursor.fetchone()
        assert row is not None
        return row["id"]


async def test_jobs_are_listed_by_their_state(idle: Api):
    """Operators list jobs page by page: waiting, running, stalled, and failed with the reason; a viewer may not."""
    operator = Operator(idle, await idle.operator(Role.OPERATOR))
    async with await connect(idle.database_url, autocommit=True) as conn:
        await conn.execute(
            """insert into procrastinate_workers (last_heartbeat)
               values (now()), (now() - interval '1 hour')"""
        )
    alive, dead = "(select min(id) from procrastinate_workers)", "(select max(id) from procrastinate_workers)"
    agent = await idle.enrol("one")
    command = await operator.send(agent.id, "ls")
    put_in = {
        "waiting": await put(idle, "todo", "onsembl:run_command", command_id=command["id"]),
        "running": await put(idle, "doing", worker=alive),
        "failed": await put(idle, "failed"),
        "succeeded": await put(idle, "succeeded"),
    }
    orphan, silent = await put(idle, "doing"), await put(idle, "doing", worker=dead)
    async with await connect(idle.database_url, autocommit=True) as conn:
        await conn.execute("insert into job_errors (job_id, error) values (%s, 'OSError: no')", [put_in["failed"]])
    for state, id in put_in.items():
        (job,) = (await call_api(operator, "GET", f"{PATH}?state={state}"))["jobs"]
        assert (job["id"], job["state"]) == (id, state)
    assert [job["id"] for job in (await call_api(operator, "GET", f"{PATH}?state=stalled"))["jobs"]] == [silent, orphan]
    (failed,) = (await call_api(operator, "GET", f"{PATH}?state=failed"))["jobs"]
    assert failed["error"] == "OSError: no" and failed["command_id"] is None
    (waiting,) = (await call_api(operator, "GET", f"{PATH}?state=waiting"))["jobs"]
    assert (waiting["command_id"], waiting["agent"], waiting["attempts"]) == (command["id"], "one", 0)
    first = await call_api(operator, "GET", f"{PATH}?state=failed,stalled&limit=2")
    second = await call_api(operator, "GET", f"{PATH}?state=failed,stalled&limit=2&before={first['next_before']}")
    assert [job["id"] for job in first["jobs"] + second["jobs"]] == [silent, orphan, put_in["failed"]]
    assert second["next_before"] is None
    assert len((await call_api(operator, "GET", PATH))["jobs"]) == 6
    workers = (await call_api(operator, "GET", f"{PATH}/workers"))["workers"]
    assert [(worker["alive"], worker["jobs"]) for worker in workers] == [(True, 1), (False, 1)]
    await call_api(operator, "GET", f"{PATH}?state=gone", None, 400)
    viewer = Operator(idle, await idle.operator(Role.VIEWER))
    for path in (PATH, f"{PATH}/periodic", f"{PATH}/workers"):
        await call_api(viewer, "GET", path, None, 403)


async def test_only_a_failed_job_that_is_no_commands_is_run_again(idle: Api):
    """An admin runs a failed job again once, with an entry in the audit log, unless it belongs to a command."""
    admin = Operator(idle, await idle.operator())
    agent = await idle.enrol("one")
    command = await admin.send(agent.id, "ls")
    of_command = await put(idle, "failed", "onsembl:run_command", command_id=command["id"])
    failed, done = await put(idle, "failed"), await put(idle, "succeeded")
    for id, status in ((of_command, 409), (done, 409), (10**18, 404), (10**30, 404)):
        await call_api(admin, "POST", f"{PATH}/{id}/retry", {}, status)
    operator = Operator(idle, await idle.operator(Role.OPERATOR))
    await call_api(operator, "POST", f"{PATH}/{failed}/retry", {}, 403)
    again = await call_api(admin, "POST", f"{PATH}/{failed}/retry", {})
    assert (again["state"], again["attempts"]) == ("waiting", 1)
    await call_api(admin, "POST", f"{PATH}/{failed}/retry", {}, 409)
    assert await audit_entries(idle, "job.%") == [("job.retried", {"task": KEEP_ARCHIVE})]


async def test_why_a_job_failed_is_kept(api: Api):
    """A failed job keeps the error message of the worker that ran it."""
    operator = Operator(api, await api.operator())
    async with await connect(api.database_url) as conn:
        queue = App(connector=PsycopgConnector())
        await queue.configure_task(KEEP_ARCHIVE, connection=conn).defer_async(timestamp=1, days="many")

    async def failed():
        return (await call_api(operator, "GET", f"{PATH}?state=failed"))["jobs"]

    (job,) = await until(failed, "it fails")  # type: ignore[misc]
    assert job["error"].startswith("TypeError: keep_archive() got an unexpected keyword argument 'days'")
    assert job["ended_at"] is not None


async def test_the_command_line_shows_the_queue(api: Api, tmp_path: Path):
    """The command line prints the queue as text and as JSON; its exit code shows whether a worker is running."""
    shell = CommandLine(api, await api.operator(), tmp_path)
    operator = Operator(api, await api.operator(Role.OPERATOR))

    async def working():
        return (await call_api(operator, "GET", f"{PATH}/workers"))["workers"]

    await until(working, "the worker is there")
    said, _ = await shell.run("jobs", "workers")
    assert "alive" in said
    tasks = json.loads((await shell.run("jobs", "periodic", "--json"))[0])
    assert {task["name"]: task["cron"] for task in tasks} == PERIODIC
    said, _ = await shell.run("jobs", "periodic")
    assert "keep_archive" in said and "17 * * * *" in said
    failed = await put(api, "failed")
    async with await connect(api.database_url, autocommit=True) as conn:
        await conn.execute("insert into job_errors (job_id, error) values (%s, 'OSError: no')", [failed])
    said, _ = await shell.run("jobs", "list", "--state", "failed")
    line, why = said.splitlines()
    assert line.split()[0] == str(failed) and "keep_archive" in line and why.strip() == "OSError: no"
    assert [job["id"] for job in json.loads((await shell.run("jobs", "list", "--state", "failed", "--json"))[0])] == [
        failed
    ]
    said, _ = await shell.run("jobs", "retry", str(failed))
    assert said == f"Job {failed} (keep_archive) is waiting.\n"
    _, err = await shell.run("jobs", "retry", "1000000", code=1)
    assert "Job not found." in err


async def test_without_a_worker_the_command_line_says_so(idle: Api, tmp_path: Path):
    """Without a worker the command line reports that commands would not start."""
    shell = CommandLine(idle, await idle.operator(), tmp_path)
    _, err = await shell.run("jobs", "workers", code=1)
    assert "No worker is alive" in err
