"""A worker that runs until its queue is empty."""

from __future__ import annotations

import asyncio
from uuid import UUID

from support.agents import until
from support.workers import job_of

from onsembl.fleet.commands import CommandContent, send
from onsembl.protocol.ids import AgentId
from onsembl.sql import agents
from onsembl.sql.audit import Actor
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.commands import notify_changed
from onsembl.sql.database import Connection, connect
from onsembl.tasks.metrics import Pools, WorkerMetrics, new_registry
from onsembl.tasks.worker import WorkerSettings, run_worker

ANN = Actor("operator", UUID(int=1), "ann", "127.0.0.1")


async def a_running_command(conn: Connection, name: str) -> dict:
    """A command that an online agent of this name runs, with its job."""
    agent = await agents.create(conn, name=name, kind="shell", mode="exec", host="", platform="")
    assert agent is not None
    await conn.execute("update agents set status = 'online' where id = %s", [agent["id"]])
    command = (await send(conn, CommandContent(text="ls"), AgentId(agent["id"]), ANN)).command
    assert command is not None
    await conn.execute("update commands set state = 'running' where id = %s", [command["id"]])
    return command


async def test_one_run_of_the_worker_takes_what_comes_while_a_command_runs(database_url: str) -> None:
    """While a command runs, the worker keeps its job and its own row, and takes a job that comes meanwhile; it ends
    after both."""

    async def taken(command: dict) -> dict | None:
        job = await job_of(database_url, command)
        return job if job is not None and job["status"] == "doing" else None

    registry = new_registry()
    metrics = WorkerMetrics(registry, Pools(registry))
    async with await connect(database_url, autocommit=True) as conn:
        first = await a_running_command(conn, "one")
        worker = asyncio.create_task(run_worker(database_url, WorkerSettings(), metrics, until_idle=True))
        try:
            before = await until(lambda: taken(first), "the worker has the first job")
            second = await a_running_command(conn, "two")
            assert await until(lambda: taken(second), "the worker has the second job") == before
            assert await job_of(database_url, first) == before
            await conn.execute("update commands set state = 'succeeded'")
            for command in (first, second):
                await notify_changed(conn, command["id"])
            await worker
        finally:
            await cancel_until_done([worker])
        for command in (first, second):
            ended = await job_of(database_url, command)
            assert ended is not None and ended["status"] == "succeeded"
