"""The `halts` and `halt_agents` tables: emergency stops, and the progress of each agent.

At most one halt is in force. Only `enforce` waits for other transactions.
"""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId
from onsembl.protocol.messages import HaltProgress
from onsembl.sql.audit import Actor
from onsembl.sql.commands import CHANGED
from onsembl.sql.database import Connection

COLUMNS = """id, number, at, requested_by, requested_by_name, reason, seconds, lifted_at, lifted_by, lifted_by_name"""
AGENT_COLUMNS = """halt_agents.id, halt_id, agent_id, name, state, step, processes_left, pids, halt_agents.at"""


async def begin(conn: Connection, actor: Actor, reason: str | None, seconds: float) -> tuple[DictRow, bool]:
    """Halt the fleet; agents must stop within `seconds`. Return the halt in force, and whether it is new."""
    while (row := await _insert(conn, actor, reason, seconds)) is None:
        if (standing := await in_force(conn)) is not None:  # otherwise the halt was lifted meanwhile
            return standing, False
    # Agents that have never connected have nothing to stop.
    await conn.execute(
        """insert into halt_agents (halt_id, agent_id, state)
           select %s, id, case status when 'online' then 'stopping' else 'not_reached' end
           from agents where connected_at is not null""",
        [row["id"]],
    )
    return row, True


async def _insert(conn: Connection, actor: Actor, reason: str | None, seconds: float) -> DictRow | None:
    cursor = await conn.execute(
        f"""insert into halts (requested_by, requested_by_name, reason, seconds) values (%s, %s, %s, %s)
            on conflict do nothing
            returning {COLUMNS}""",
        [actor.id, actor.name, reason, seconds],
    )
    return await cursor.fetchone()


async def in_force(conn: Connection) -> DictRow | None:
    """The halt in force; None when there is none."""
    cursor = await conn.execute(f"select {COLUMNS} from halts where lifted_at is null")
    return await cursor.fetchone()


async def cancel_active(conn: Connection, halt: DictRow) -> None:
    """Request the cancellation of every active command, except commands that another transaction is changing."""
    await _cancel(conn, halt, "for update skip locked")


async def enforce(conn: Connection, halt: DictRow) -> int:
    """Cancel the commands that `cancel_active` left out, and every queued command; return the number of queued
    commands.

    This waits for transactions that may not have seen the halt: they promote a command, or mark an agent offline.
    """
    await conn.execute("select id from agents order by id for update")
    await _cancel(conn, halt, "for update")
    await conn.execute(
        """update halt_agents set state = 'not_reached', at = now()
           from agents
           where agents.id = agent_id and halt_id = %s and status = 'offline' and state in ('stopping', 'dying')""",
        [halt["id"]],
    )
    cursor = await conn.execute(
        """update commands
           set state = 'cancelled', ended_at = now(), cancel_requested_at = now(), cancel_requested_by = %(by)s,
               cancel_reason = %(reason)s, error = 'Cancelled in the line by the emergency stop.'
           where state = 'queued' and created_at <= %(at)s
             and steer_state is distinct from 'given'  -- it ends with its turn""",
        {"by": halt["requested_by"], "reason": halt["reason"], "at": halt["at"]},
    )
    return cursor.rowcount


async def _cancel(conn: Connection, halt: DictRow, locking: Literal["for update", "for update skip locked"]) -> None:
    await conn.execute(
        f"""with active as (
                select id from commands
                where state in ('dispatched', 'running') and cancel_requested_at is null
                {locking}),
            wished as (
                update commands set cancel_requested_at = now(), cancel_requested_by = %(by)s,
                    cancel_reason = coalesce(%(reason)s, 'Emergency stop')
                from active where commands.id = active.id
                returning commands.id)
            select count(pg_notify(%(channel)s, id::text)) from wished""",
        {"by": halt["requested_by"], "reason": halt["reason"], "channel": CHANGED},
    )


async def reach(conn: Connection, agent_id: AgentId) -> DictRow | None:
    """Record that an agent that connects is stopping, if a halt is in force; return that halt."""
    halt = await in_force(conn)
    if halt is not None:
        await conn.execute(
            """insert into halt_agents (halt_id, agent_id, state) values (%s, %s, 'stopping')
               on conflict (halt_id, agent_id) do update set state = 'stopping', at = now()
               where halt_agents.state = 'not_reached'""",
            [halt["id"], agent_id],
        )
    return halt


async def progress(conn: Connection, agent_id: AgentId, report: HaltProgress) -> bool:
    """Record the agent's progress; return whether this is its first report of this state. A late report changes
    nothing."""
    cursor = await conn.execute(
        """update halt_agents
           set state = %(state)s, step = coalesce(%(step)s, halt_agents.step), processes_left = %(left)s,
               pids = %(pids)s::integer[],
               at = (bounded_times(null, %(at)s, null, (select at from halts where id = %(halt)s), now())).finished
           from (select id, state from halt_agents where halt_id = %(halt)s and agent_id = %(agent)s for update) as was
           where halt_agents.id = was.id and not (was.state = 'stopped' and %(state)s = 'stopping')
           returning was.state <> %(state)s as news""",
        {
            "state": report.state,
            "step": report.step,
            "left": report.processes_left,
            "pids": report.pids,
            "at": report.at,
            "halt": report.halt_id,
            "agent": agent_id,
        },
    )
    row = await cursor.fetchone()
    return row is not None and row["news"]


async def agents_of(conn: Connection, halt_id: UUID) -> list[DictRow]:
    """The progress of the halt on each agent, by agent name.

    A disabled agent cannot connect and report its progress: it is left out, unless the halt reached it before.
    """
    cursor = await conn.execute(
        f"""select {AGENT_COLUMNS} from halt_agents join agents on agents.id = agent_id
            where halt_id = %s and not (disabled_at is not null and state = 'not_reached')
            order by name""",
        [halt_id],
    )
    return await cursor.fetchall()


async def lift(conn: Connection, actor: Actor) -> DictRow | None:
    """Lift the halt in force and return it; None when there is none."""
    cursor = await conn.execute(
        f"""update halts set lifted_at = now(), lifted_by = %s, lifted_by_name = %s
            where lifted_at is null
            returning {COLUMNS}""",
        [actor.id, actor.name],
    )
    return await cursor.fetchone()


async def latest(conn: Connection) -> DictRow | None:
    """The newest halt, lifted or not."""
    cursor = await conn.execute(f"select {COLUMNS} from halts order by number desc limit 1")
    return await cursor.fetchone()
