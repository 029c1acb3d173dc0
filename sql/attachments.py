"""The tables `attachments`, the files that go with prompts, and `command_attachments`, the commands that have them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, CommandId, OperatorId
from onsembl.sql.database import Connection

COLUMNS = "id, name, media_type, size, sha256"


async def unsent_bytes(conn: Connection, operator_id: OperatorId) -> int:
    """The bytes of the operator's files that no command has. Another call of this operator waits until the
    transaction ends."""
    await conn.execute("select pg_advisory_xact_lock(hashtextextended('onsembl:attachments:' || %s, 0))", [operator_id])
    cursor = await conn.execute(
        """select coalesce(sum(size), 0) as bytes from attachments
           where operator_id = %s
             and not exists (select from command_attachments where attachment_id = attachments.id)""",
        [operator_id],
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row["bytes"])


async def add(
    conn: Connection, operator_id: OperatorId, *, name: str, media_type: str, sha256: str, content: bytes
) -> DictRow:
    """Store a file; return its row without the content."""
    cursor = await conn.execute(
        f"""insert into attachments (operator_id, name, media_type, size, sha256, content)
            values (%s, %s, %s, %s, %s, %s) returning {COLUMNS}""",
        [operator_id, name, media_type, len(content), sha256, content],
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def of_operator(conn: Connection, operator_id: UUID | None, ids: Sequence[UUID]) -> list[DictRow]:
    """Those of these files that the operator has sent, without their content. They stay until the transaction ends."""
    cursor = await conn.execute(
        f"select {COLUMNS} from attachments where id = any(%s) and operator_id = %s order by id for key share",
        [list(ids), operator_id],
    )
    return await cursor.fetchall()


async def give(conn: Connection, command_ids: Collection[CommandId], ids: Sequence[UUID]) -> None:
    """Record that these commands have these files."""
    await conn.execute(
        "insert into command_attachments (command_id, attachment_id) select * from unnest(%s::uuid[]) as command "
        "cross join unnest(%s::uuid[]) as attachment",
        [list(command_ids), list(ids)],
    )


async def content_for(conn: Connection, agent_id: AgentId, issued_at: float, attachment_id: UUID) -> bytes | None:
    """The content of a file of the command that the agent has now; None when its command has no such file, or the
    agent's tokens of `issued_at` (Unix time) are revoked."""
    cursor = await conn.execute(
        """select content from attachments
           where id = %(id)s and exists (
               select from command_attachments
               join commands on commands.id = command_id
               join agents on agents.id = agent_id
               where attachment_id = %(id)s and agent_id = %(agent_id)s and state in ('dispatched', 'running')
                 and disabled_at is null
                 and (tokens_after is null or to_timestamp(%(issued_at)s) >= tokens_after))""",
        {"id": attachment_id, "agent_id": agent_id, "issued_at": issued_at},
    )
    row = await cursor.fetchone()
    return row["content"] if row is not None else None


async def forget(conn: Connection, *, unsent_hours: int, days: float) -> int:
    """Remove the files that no command has after `unsent_hours`, and those whose commands are over after `days`; return
    their number."""
    cursor = await conn.execute(
        """delete from attachments
           where created_at < now() - make_interval(hours => %(hours)s)
                 and not exists (select from command_attachments where attachment_id = attachments.id)
              or created_at < now() - make_interval(secs => %(seconds)s)
                 and not exists (
                     select from command_attachments
                     join commands on commands.id = command_id
                     where attachment_id = attachments.id and state in ('queued', 'dispatched', 'running'))""",
        {"hours": unsent_hours, "seconds": days * 86_400},
    )
    return cursor.rowcount
