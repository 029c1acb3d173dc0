"""An agent's line of commands: its head becomes a job when it can run.

A row becomes a job only then. Procrastinate's fetch looks at every waiting job whose lock is taken, so a job for each
queued command would make each fetch slower by the length of every line.
"""

from __future__ import annotations

from procrastinate import App, PsycopgConnector
from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, CommandId
from onsembl.sql import commands, jobs
from onsembl.sql.database import Connection
from onsembl.tasks.names import RUN_COMMAND

_deferring = App(connector=PsycopgConnector())
"""Never opened: each job is made on the caller's connection, inside its transaction."""


async def promote(conn: Connection, agent_id: AgentId) -> DictRow | None:
    """Give the agent its next command, if it is online and free: row and job change in the caller's transaction.

    The caller holds the agent's row (`agents.lock`), so nobody else moves the line meanwhile. Returns the promoted row.
    """
    command = await commands.promote(conn, agent_id)
    if command is not None:
        await defer_job(conn, agent_id, command["id"])
    return command


async def defer_job(conn: Connection, agent_id: AgentId, command_id: CommandId) -> None:
    """Make the job that runs a command, in the caller's transaction.

    One job an agent runs at a time (`lock`) and one waits (`queueing_lock`).
    """
    line = f"agent:{agent_id}"
    # A job may wait whose command is over: its worker was stopped or died, and meanwhile the agent told of the end.
    await jobs.make_room(conn, line)
    job_id = await _deferring.configure_task(RUN_COMMAND, lock=line, queueing_lock=line, connection=conn).defer_async(
        command_id=str(command_id)
    )
    await commands.set_job(conn, command_id, job_id)
