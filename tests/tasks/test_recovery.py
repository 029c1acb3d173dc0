"""The repairs that a sweep makes in the database."""

from __future__ import annotations

from uuid import UUID

import pytest

from onsembl.fleet.commands import CommandContent, send
from onsembl.protocol.ids import AgentId, CommandId, OperatorId
from onsembl.sql import agents, commands, jobs
from onsembl.sql.audit import Actor
from onsembl.sql.database import Connection, connect, create_pool
from onsembl.tasks import recovery
from onsembl.tasks.app import KEEP_ARCHIVE, new_app

ANN = Actor("operator", UUID(int=1), "ann", "127.0.0.1")


@pytest.fixture
async def pool(database_url):
    async with create_pool(database_url, role="onsembl_api") as pool:
        yield pool


async def an_agent(conn: Connection) -> AgentId:
    row = await agents.create(conn, name="one", kind="shell", mode="exec", host="", platform="")
    assert row is not None
    await conn.execute("update agents set status = 'online' where id = %s", [row["id"]])
    return row["id"]


async def a_command(conn: Connection, agent_id: AgentId) -> CommandId:
    """Send a command, which gets a job if the agent is free."""
    row = (await send(conn, CommandContent(text="ls"), agent_id, ANN)).command
    assert row is not None
    return row["id"]


async def jobs_of(conn: Connection) -> list[tuple[str, bool]]:
    """The status of every job, and whether it is the newest of a command."""
    cursor = await conn.execute(
        """select status, exists (select from commands where job_id = jobs.id) as held
           from procrastinate_jobs as jobs order by id"""
    )
    return [(row["status"], row["held"]) for row in await cursor.fetchall()]


async def test_a_dead_workers_job_of_a_command_that_is_over_is_given_up(pool, database_url):
    """A dead worker's job of an ended command fails, and the job of the agent's next command stays."""
    async with await connect(database_url) as conn:
        agent_id = await an_agent(conn)
        await a_command(conn, agent_id)
        second = await a_command(conn, agent_id)
        await conn.execute("update procrastinate_jobs set status = 'doing'")  # the worker of this job is dead
        await conn.execute("update commands set state = 'succeeded' where state = 'dispatched'")
        promoted = await commands.promote(conn, agent_id)
        assert promoted is not None and promoted["id"] == second
        await conn.commit()
        await recovery.sweep(pool, 1.0)
        assert await jobs_of(conn) == [("failed", True), ("todo", True)]
        listed = await jobs.page(conn, ["failed", "waiting"], 1.0, None, 10)
        assert [job["error"] for job in listed] == [None, recovery.OVER]


async def test_a_dead_workers_job_of_a_command_that_goes_on_is_taken_up_again(pool, database_url):
    """A dead worker's job of an unfinished command waits for the next worker."""
    async with await connect(database_url) as conn:
        agent_id = await an_agent(conn)
        await a_command(conn, agent_id)
        await conn.execute("update procrastinate_jobs set status = 'doing'")
        await conn.commit()
        await recovery.sweep(pool, 1.0)
        assert await jobs_of(conn) == [("todo", True)]


async def test_a_dead_workers_periodic_job_is_taken_up_again(pool, database_url):
    """A dead worker's periodic job runs again at once, although it has no command and its next time may be an hour
    away."""
    async with await connect(database_url) as conn, create_pool(database_url, autocommit=True) as own:
        app = new_app()
        await app.open_async(own)
        await app.configure_task(KEEP_ARCHIVE, lock=KEEP_ARCHIVE).defer_async(timestamp=0)
        await conn.execute("update procrastinate_jobs set status = 'doing'")
        await conn.commit()
        await recovery.sweep(pool, 1.0)
        assert await jobs_of(conn) == [("todo", False)]


async def test_a_job_that_waits_for_a_command_that_is_over_makes_room(database_url):
    """If a command ends before a worker takes its job again, the job is cancelled and the next command is promoted."""
    async with await connect(database_url) as conn:
        agent_id = await an_agent(conn)
        await a_command(conn, agent_id)
        await a_command(conn, agent_id)
        await conn.execute("update commands set state = 'succeeded' where state = 'dispatched'")
        assert await commands.promote(conn, agent_id) is not None
        assert await jobs_of(conn) == [("cancelled", True), ("todo", True)]


async def test_a_command_without_a_job_gets_one(pool, database_url):
    """A command whose job was aborted while its worker died gets a new job, which continues the cancellation."""
    async with await connect(database_url) as conn:
        agent_id = await an_agent(conn)
        command_id = await a_command(conn, agent_id)
        await commands.request_cancel(conn, command_id, OperatorId(UUID(int=1)), None)
        await conn.execute("update procrastinate_jobs set status = 'doing', abort_requested = true")
        await conn.commit()
        await recovery.sweep(pool, 1.0)
        assert await jobs_of(conn) == [("failed", False), ("todo", True)]
