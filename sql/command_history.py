"""The `commands` table as a history: the text, the agent, the operator and the result of each command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, CommandId
from onsembl.sql.commands import COLUMNS
from onsembl.sql.database import Connection
from onsembl.sql.search import pattern

_SAID = "(text ilike %(term{0})s or (note <> '' and note ilike %(term{0})s))"


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryFilter:
    """A filter for commands; a field that is None matches every command. Each of `terms` occurs in the text or the
    note, in any case. `by` is a part of the operator's name."""

    agent_id: AgentId | None = None
    states: Sequence[str] | None = None
    group_id: UUID | None = None
    conversation_id: UUID | None = None
    tag: str | None = None
    by: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    terms: Sequence[str] = ()

    def where(self) -> tuple[str, dict[str, object]]:
        """The SQL condition, and its parameters."""
        given: dict[str, tuple[object, str]] = {
            "agent": (self.agent_id, "agent_id = %(agent)s"),
            "states": (list(self.states) if self.states else None, "state = any(%(states)s)"),
            "group": (self.group_id, "group_id = %(group)s"),
            "conversation": (self.conversation_id, "conversation_id = %(conversation)s"),
            "tag": ([self.tag] if self.tag is not None else None, "tags @> %(tag)s"),
            "by": (pattern(self.by) if self.by is not None else None, "requested_by_name ilike %(by)s"),
            "since": (self.since, "created_at >= %(since)s"),
            "until": (self.until, "created_at < %(until)s"),
            **{f"term{number}": (pattern(term), _SAID.format(number)) for number, term in enumerate(self.terms)},
        }
        wanted = {name: value for name, (value, _) in given.items() if value is not None}
        return " and ".join(["true", *(given[name][1] for name in wanted)]), wanted


async def page(conn: Connection, wanted: HistoryFilter, before: int | None, limit: int) -> list[DictRow]:
    """Commands with a `seq` below `before`, newest first."""
    condition, parameters = wanted.where()
    cursor = await conn.execute(
        f"""select {COLUMNS} from commands
            where {condition} and (%(before)s::bigint is null or seq < %(before)s)
            order by seq desc
            limit %(limit)s""".encode(),
        {**parameters, "before": before, "limit": limit},
    )
    return await cursor.fetchall()


async def annotate(
    conn: Connection, command_id: CommandId, note: str | None, tags: Sequence[str] | None
) -> DictRow | None:
    """Change the note or the tags of a command in any state; a field that is None stays. Return the command's row, None
    when the command does not exist."""
    cursor = await conn.execute(
        f"""update commands
            set note = coalesce(%s::text, note), tags = coalesce(%s::text[], tags), revision = revision + 1
            where id = %s
            returning {COLUMNS}""",
        [note, list(tags) if tags is not None else None, command_id],
    )
    return await cursor.fetchone()


async def tags_in_use(conn: Connection, limit: int) -> list[DictRow]:
    """The tags of the newest commands with tags, the most used first: `tag` and `count`."""
    cursor = await conn.execute(
        """select tag, count(*) from (
               select unnest(tags) as tag from (
                   select tags from commands where tags <> '{}' order by seq desc limit 5000) as newest) as all_tags
           group by tag order by count(*) desc, tag limit %s""",
        [limit],
    )
    return await cursor.fetchall()
