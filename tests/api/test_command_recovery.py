"""A killed worker or a restarted database: every command still ends correctly."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from support.agents import FINAL, Operator, agent_running, sleepers, until
from support.server import running
from support.workers import job_of, worker_running

SOON = ("--dead-after", "2")


async def test_a_killed_workers_command_ends_right_and_once(settings, tmp_path):
    """A command whose worker is killed with `kill -9` runs once, ends normally, and its job is finished."""
    async with running(replace(settings, worker=None)) as api:
        operator = Operator(api, await api.operator())
        ran = tmp_path / "ran"
        async with agent_running(api, tmp_path) as agent:
            async with worker_running(settings.database_url, *SOON) as worker:
                command = await operator.send(agent.id, f"echo once >> {ran}; until test -e go; do sleep 0.05; done")
                await operator.until_state(command, "running")
                await until(lambda: _has(settings.database_url, command, "doing"), "the worker has its job")
                worker.kill()
                await worker.wait()
            (tmp_path / "go").touch()
            assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"
            assert ran.read_text() == "once\n"
            async with worker_running(settings.database_url, *SOON):
                await until(lambda: _has(settings.database_url, command, "failed"), "the job is given up")
                # The agent's queue moves on.
                after = await operator.send(agent.id, "true")
                assert (await operator.until_state(after, *FINAL))["state"] == "succeeded"
        assert (await operator.read(command))["state"] == "succeeded"


async def _has(database_url: str, command: dict, status: str) -> bool:
    job = await job_of(database_url, command)
    return job is not None and job["status"] == status


async def test_a_cancel_wished_while_no_worker_lives_is_done_by_the_next(settings, tmp_path):
    """A cancel request that is made without a live worker is on the row, and the next worker carries it out."""
    async with running(replace(settings, worker=None)) as api:
        operator = Operator(api, await api.operator())
        async with agent_running(api, tmp_path) as agent:
            async with worker_running(settings.database_url) as worker:
                command = await operator.send(agent.id, "sleep 1000")
                await operator.until_state(command, "running")
                await until(lambda: _has(settings.database_url, command, "doing"), "the worker has its job")
                worker.kill()
                await worker.wait()
            await operator.cancel(command)
            async with worker_running(settings.database_url):
                assert (await operator.until_state(command, *FINAL))["state"] == "cancelled"
            assert await sleepers(command) == []


async def test_the_database_restarted_while_a_command_runs(own_postgres, settings, tmp_path):
    """After a restart of Postgres a command's end is written, and the next command runs."""
    async with running(replace(settings, database_url=own_postgres.url())) as api:
        operator = Operator(api, await api.operator())
        async with agent_running(api, tmp_path) as agent:
            command = await operator.send(agent.id, "until test -e go; do sleep 0.05; done")
            await operator.until_state(command, "running")
            await asyncio.to_thread(own_postgres.stop)
            (tmp_path / "go").touch()
            await asyncio.to_thread(own_postgres.start)
            assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"
            after = await operator.send(agent.id, "true")
            assert (await operator.until_state(after, *FINAL))["state"] == "succeeded"
