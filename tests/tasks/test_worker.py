"""Workers in processes of their own: a job survives its worker, `--until-idle` ends, and `--concurrency` bounds the
jobs."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from support.agents import FINAL, Operator, agent_running, until
from support.api_calls import call_api
from support.frames import HELLO, HELLO_TEXT, next_message
from support.server import Api, running
from support.workers import job_of, worker_running

from onsembl.api.settings import Settings
from onsembl.sql.database import connect
from onsembl.tasks.worker import WorkerSettings

SOON = ("--dead-after", "2")
RECOVERY_SECONDS = 30.0


@pytest.fixture
async def api(database_url: str):
    """An API without a worker of its own."""
    async with running(Settings(database_url=database_url, public_url="", worker=None)) as api:
        yield api


async def heard_of(operator: Operator, count: int) -> list[dict]:
    """Wait until the API lists this many workers; return them, oldest first."""

    async def there():
        found = (await call_api(operator, "GET", "/v1/jobs/workers"))["workers"]
        return found if len(found) == count else None

    return await until(there, f"{count} workers")  # type: ignore[return-value]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_what_one_worker_leaves_another_takes_up(api: Api, tmp_path: Path, how: signal.Signals) -> None:
    """When a worker is drained or killed during a command, another takes its job soon, and the program runs on and ran
    once."""
    operator = Operator(api, await api.operator())
    url = api.database_url
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(worker_running(url, *SOON))
        await heard_of(operator, 1)
        agent = await stack.enter_async_context(agent_running(api, tmp_path))
        text = "echo $BASHPID >> began; until test -e go; do sleep 0.05; done; echo $BASHPID >> ended"
        command = await operator.send(agent.id, text)
        await operator.until_state(command, "running")
        before = await until(lambda: _job(url, command, "doing"), "the worker has its job")
        assert isinstance(before, dict)
        began = tmp_path / "began"
        await until(lambda: _has_a_line(began), "the program runs")
        program = psutil.Process(int(began.read_text()))
        await stack.enter_async_context(worker_running(url, *SOON))
        second = (await heard_of(operator, 2))[1]

        async def taken_over() -> bool:
            job = await job_of(url, command)
            return job is not None and (job["status"], job["worker_id"]) == ("doing", second["id"])

        first.send_signal(how)
        async with asyncio.timeout(RECOVERY_SECONDS):
            assert await first.wait() == (0 if how == signal.SIGTERM else -how)
            await until(taken_over, "the other has the job")
        after = await job_of(url, command)
        assert after is not None and after["attempts"] == before["attempts"] + 1
        row = await operator.read(command)
        assert (row["state"], program.is_running()) == ("running", True)
        (tmp_path / "go").touch()
        assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"
        assert began.read_text() == (tmp_path / "ended").read_text() == f"{program.pid}\n"
        await until(lambda: _job(url, command, "succeeded"), "the job is over")


async def test_a_worker_that_was_taken_for_dead_starts_again(api: Api, tmp_path: Path) -> None:
    """A worker is stopped until another has its job, and goes on: it registers again, and the command ends once."""
    operator = Operator(api, await api.operator())
    url = api.database_url
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(worker_running(url, *SOON))
        [before] = await heard_of(operator, 1)
        agent = await stack.enter_async_context(agent_running(api, tmp_path))
        command = await operator.send(agent.id, "echo x >> ran; until test -e go; do sleep 0.05; done")
        await until(lambda: _job(url, command, "doing"), "the worker has its job")
        first.send_signal(signal.SIGSTOP)
        await stack.enter_async_context(worker_running(url, *SOON))

        async def taken_over() -> bool:
            job = await job_of(url, command)
            return job is not None and job["status"] == "doing" and job["worker_id"] not in (None, before["id"])

        await until(taken_over, "the other has the job")
        first.send_signal(signal.SIGCONT)
        after = await heard_of(operator, 2)
        assert before["id"] not in [worker["id"] for worker in after]
        (tmp_path / "go").touch()
        assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"
        assert (tmp_path / "ran").read_text() == "x\n"


FAIL_ONE_HEARTBEAT = """
    create sequence beats;
    create function fail_first() returns trigger language plpgsql security definer as $$
    begin
        if nextval('beats') = 1 then
            raise 'the heartbeat fails';
        end if;
        return new;
    end $$;
    create trigger fail_first before update on procrastinate_workers for each row execute function fail_first();
"""


async def test_a_worker_whose_heartbeat_fails_once_registers_again(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Procrastinate's task for heartbeats ends with its first error. The worker is not taken for dead: it ends its run
    and begins another, with a row and heartbeats of its own."""
    async with await connect(database_url) as conn:
        await conn.execute(FAIL_ONE_HEARTBEAT)

    async def beats() -> bool:
        async with await connect(database_url) as conn:
            cursor = await conn.execute("select last_value >= 3 as enough from beats")
            row = await cursor.fetchone()
        return row is not None and row["enough"]

    settings = Settings(database_url=database_url, public_url="", worker=WorkerSettings(dead_after=2.0))
    async with running(settings) as api:
        operator = Operator(api, await api.operator())
        await until(beats, "heartbeats after the one that failed")
        (worker,) = await heard_of(operator, 1)
        assert worker["id"] > 1, "the run whose heartbeat failed is over"
    actions = {getattr(record, "action", None) for record in caplog.records}
    assert "worker_restart" in actions and "worker_taken_for_dead" not in actions


async def test_a_cancel_is_carried_out_by_whoever_took_the_job_over(api: Api, tmp_path: Path) -> None:
    """A cancel request that is made after the first worker has gone is carried out by the next."""
    operator = Operator(api, await api.operator())
    async with agent_running(api, tmp_path) as agent:
        async with worker_running(api.database_url, *SOON) as first:
            command = await operator.send(agent.id, "echo began; sleep 1000")
            await operator.until_state(command, "running")
            await until(lambda: _job(api.database_url, command, "doing"), "the worker has its job")
            first.terminate()
            assert await first.wait() == 0
        await operator.cancel(command)
        async with worker_running(api.database_url, *SOON):
            assert (await operator.until_state(command, *FINAL))["state"] == "cancelled"


async def test_until_idle_ends_when_every_line_is_empty(api: Api, tmp_path: Path) -> None:
    """`--until-idle` ends after the last queued command, and at once if no command is queued."""
    operator = Operator(api, await api.operator())
    async with agent_running(api, tmp_path, "one") as one, agent_running(api, tmp_path, "two") as two:
        for agent in (one, two):
            await until(lambda agent=agent: _online(operator, agent.id), "it is online")
        sent = [await operator.send(agent.id, f"echo {number} >> ran") for number in range(3) for agent in (one, two)]
        for _ in range(2):
            async with worker_running(api.database_url, "--until-idle") as worker:
                async with asyncio.timeout(60):
                    assert await worker.wait() == 0
            assert [(await operator.read(command))["state"] for command in sent] == ["succeeded"] * 6
    assert sorted((tmp_path / "ran").read_text()) == sorted("0\n1\n2\n" * 2)


async def test_until_idle_does_not_wait_for_an_agent_that_is_away(api: Api) -> None:
    """`--until-idle` does not wait for an offline agent's command: the job stays, and another worker finishes it."""
    operator = Operator(api, await api.operator())
    agent = await api.enrol()
    async with AsyncExitStack() as stack:
        async with api.agent_socket(agent) as socket:
            await socket.send(HELLO_TEXT)
            await next_message(socket, "welcome")
            command = await operator.send(agent.id, "sleep 1000")
            await next_message(socket, "offer")
            accepted = {"command_id": command["id"], "started_at": datetime.now(UTC).isoformat(), "output_start": 0}
            await socket.send(json.dumps({"type": "accepted", **accepted}))
            await operator.until_state(command, "running")
            worker = await stack.enter_async_context(worker_running(api.database_url, "--until-idle", *SOON))
            await until(lambda: _job(api.database_url, command, "doing"), "the worker has its job")
        async with asyncio.timeout(60):
            assert await worker.wait() == 0
        assert await _job(api.database_url, command, "todo")
        await stack.enter_async_context(worker_running(api.database_url, *SOON))
        await until(lambda: _job(api.database_url, command, "doing"), "the other worker has its job")
        async with api.agent_socket(agent) as socket:
            end = {**accepted, "outcome": "succeeded", "ended_at": accepted["started_at"], "output_end": 0}
            await socket.send(json.dumps({**HELLO, "ended": [end]}))
            await operator.until_state(command, "succeeded")
            await until(lambda: _job(api.database_url, command, "succeeded"), "its job's end")


async def test_concurrency_bounds_the_jobs_at_once(api: Api, tmp_path: Path) -> None:
    """With a concurrency of 1 the second agent's job waits for the first agent's, while its command, which is
    dispatched before, runs."""
    operator = Operator(api, await api.operator())
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(agent_running(api, tmp_path, name)) for name in ("one", "two")]
        await stack.enter_async_context(worker_running(api.database_url, "--concurrency", "1"))
        first = await operator.send(one.id, "until test -e go; do sleep 0.05; done")
        await operator.until_state(first, "running")
        await until(lambda: _online(operator, two.id), "it is online")
        second = await operator.send(two.id, "true")
        await operator.until_state(second, *FINAL)
        assert await _job(api.database_url, second, "todo")
        (tmp_path / "go").touch()
        await operator.until_state(first, *FINAL)
        await until(lambda: _job(api.database_url, second, "succeeded"), "its job's end")


async def test_a_cancel_does_not_wait_for_a_worker(api: Api, tmp_path: Path) -> None:
    """The request for a cancellation itself sends the cancel to the agent, without a worker."""
    operator = Operator(api, await api.operator())
    async with agent_running(api, tmp_path, "one") as agent:
        await until(lambda: _online(operator, agent.id), "it is online")
        command = await operator.send(agent.id, "sleep 1000")
        await operator.until_state(command, "running")
        await operator.cancel(command)
        await operator.until_state(command, "cancelled")
        await operator.until_state(after := await operator.send(agent.id, "sleep 1000"), "running")
        await call_api(operator, "POST", f"/v1/agents/{agent.id}/cancel-all", {}, 202)
        await operator.until_state(after, "cancelled")


async def _has_a_line(file: Path) -> bool:
    return file.exists() and file.read_text().endswith("\n")


async def _online(operator: Operator, agent_id: str) -> bool:
    return (await call_api(operator, "GET", f"/v1/agents/{agent_id}"))["status"] == "online"


async def _job(url: str, command: dict, status: str) -> dict | None:
    """The command's job, if it has this status."""
    job = await job_of(url, command)
    return job if job is not None and job["status"] == status else None
