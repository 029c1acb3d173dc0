"""An agent's line of commands: its head becomes a job when it can run.

A row becomes a job only then. Procrastinate's fetch looks at every waiting job whose lock is taken, so a job for each
queued command would make each fetch slower by the length of every line.
"""

from __future__ import annotations

from psycopg.rows import DictRow

from onsembl.fleet.names import RUN_COMMAND
from onsembl.protocol.ids import AgentId, CommandId
from onsembl.sql import commands
from onsembl.sql.database import Connection


async def promote(conn: Connection, agent_id: AgentId) -> DictRow | None:
    """Give the agent its next command, if it is online and free: row and job change in the caller's transaction.

    The caller holds the agent's row (`agents.lock`), so nobody else moves the line meanwhile. Returns the promoted row.
    """
    return await commands.promote(conn, agent_id, RUN_COMMAND)


async def defer_job(conn: Connection, agent_id: AgentId, command_id: CommandId) -> None:
    """Make the job that runs a command, in the caller's transaction, where the one that it had is gone.

    One job an agent runs at a time (`lock`) and one waits (`queueing_lock`).
    """
    await commands.defer(conn, agent_id, command_id, RUN_COMMAND)
