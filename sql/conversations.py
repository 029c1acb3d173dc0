"""The `conversations` table: the threads of coding CLIs, whose turns are commands."""

from __future__ import annotations

from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.turn_messages import MAX_PREFACE
from onsembl.sql.database import Connection
from onsembl.sql.search import pattern

COLUMNS = """id, seq, agent_id, cli_id, title, state, imported, forked_from, folder, branch, model, permission_mode,
    context_tokens, context_window, created_at, active_at, own_id"""

_WITH_TOTALS = f"""select {COLUMNS}, turns, tokens, cost_usd, partial, last_command_id
    from conversations
    cross join lateral (
        select count(*) filter (where started_at is not null) as turns,
            coalesce(sum((usage ->> 'input_tokens')::numeric + (usage ->> 'output_tokens')::numeric
                + (usage ->> 'cache_write_tokens')::numeric), 0)::bigint as tokens,
            sum((usage ->> 'cost_usd')::float8) as cost_usd,
            coalesce(bool_or(usage -> 'partial' = 'true'), false) as partial,
            (array_agg(commands.id order by commands.seq desc))[1] as last_command_id
        from commands where conversation_id = conversations.id) as totals"""
"""`tokens` counts what `Usage.tokens` counts."""


async def page(
    conn: Connection, agent_id: AgentId | None, title: str | None, before: int | None, limit: int
) -> list[DictRow]:
    """Conversations with a `seq` below `before`, newest first; of this agent, and with this text in the title."""
    cursor = await conn.execute(
        f"""{_WITH_TOTALS}
            where (%(agent)s::uuid is null or agent_id = %(agent)s)
              and (%(title)s::text is null or title ilike %(title)s)
              and (%(before)s::bigint is null or seq < %(before)s)
            order by seq desc
            limit %(limit)s""",
        {
            "agent": agent_id,
            "title": pattern(title) if title is not None else None,
            "before": before,
            "limit": limit,
        },
    )
    return await cursor.fetchall()


async def get(conn: Connection, conversation_id: UUID) -> DictRow | None:
    """One conversation, with its totals."""
    cursor = await conn.execute(f"{_WITH_TOTALS} where id = %s", [conversation_id])
    return await cursor.fetchone()


async def rename(conn: Connection, conversation_id: UUID, title: str) -> bool:
    """Set the title; return whether there is such a conversation."""
    cursor = await conn.execute("update conversations set title = %s where id = %s", [title, conversation_id])
    return cursor.rowcount == 1


async def fork(
    conn: Connection,
    conversation_id: UUID,
    title: str | None,
    *,
    at: str | None = None,
    preface: str | None = None,
) -> UUID | None:
    """Begin a conversation as a copy of another one; its first turn makes the copy. None if there is no such one.

    The copy ends with the message `at`. With a `preface` it is no copy: its first prompt begins with that text.
    """
    cursor = await conn.execute(
        """insert into conversations
               (agent_id, id, cli_id, title, forked_from, folder, branch, model, permission_mode, fork_at, preface)
           select agent_id, fresh, fresh::text, coalesce(%s, title), id, folder, branch, model, permission_mode, %s, %s
           from conversations cross join gen_random_uuid() as fresh where conversations.id = %s
           returning conversations.id""",
        [title, at, preface, conversation_id],
    )
    row = await cursor.fetchone()
    return row["id"] if row is not None else None


async def turn(conn: Connection, conversation_id: UUID, command_id: CommandId) -> DictRow | None:
    """A turn of the conversation that has ended: its `last_message`, None if the agent did not report it, and whether
    it is the `latest`."""
    cursor = await conn.execute(
        """select last_message, not exists (
               select from commands as later
               where later.conversation_id = turn.conversation_id and later.seq > turn.seq
                 and later.started_at is not null) as latest
           from commands as turn
           where id = %s and conversation_id = %s and started_at is not null and ended_at is not null""",
        [command_id, conversation_id],
    )
    return await cursor.fetchone()


async def last_answer(conn: Connection, conversation_id: UUID) -> str | None:
    """The last message of the CLI in the conversation, cut to the length of a preface; None when none is stored."""
    cursor = await conn.execute(
        """select left(steps.text, %s) as text from commands
           join steps on steps.at = commands.created_at and steps.command_id = commands.id
           where conversation_id = %s and steps.kind = 'message' and steps.parent is null
           order by commands.seq desc, steps.number desc limit 1""",
        [MAX_PREFACE - 1000, conversation_id],
    )
    row = await cursor.fetchone()
    return row["text"] if row is not None else None


async def import_one(conn: Connection, agent_id: AgentId, cli_id: str, title: str) -> UUID | None:
    """Take up a conversation that the agent's CLI knows by this id; None if it is here already."""
    cursor = await conn.execute(
        """insert into conversations (agent_id, cli_id, title, imported)
           select %(agent)s, %(cli_id)s, %(title)s, true
           where not exists (select from conversations where agent_id = %(agent)s and own_id = %(cli_id)s)
           on conflict (agent_id, cli_id) do nothing
           returning id""",
        {"agent": agent_id, "cli_id": cli_id, "title": title},
    )
    row = await cursor.fetchone()
    return row["id"] if row is not None else None
