"""The `steps` and `turn_progress` tables: what happened in a turn, and how far it has come."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

import msgspec
from psycopg.rows import DictRow

from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.turn_steps import Step
from onsembl.sql.database import Connection

PARTITION_DAYS = 3
SHOWN_CHARACTERS = 2000
"""How much of a text and of a result a list of steps has."""

_FIELDS = tuple(field.name for field in msgspec.structs.fields(Step))
_SHORT = ", ".join(name for name in _FIELDS if name not in ("text", "result"))


OUTPUT = "output"
"""The `kind` in `turn_progress` of a command without steps: its `title` is the last line of its output."""
PROGRESS_COLUMNS = "command_id, agent_id, steps, number, kind, name, title, status, changed, updated_at"
"""The columns of `turn_progress`, which the page follows by Realtime."""
LAST_LINE = """case when turn_progress.kind = 'tool'
    then concat_ws(' ', nullif(turn_progress.name, ''), nullif(turn_progress.title, ''))
    else turn_progress.title end"""
"""The last line of a command, from its row of `turn_progress`: of its output, or the last step in words."""


async def write(conn: Connection, agent_id: AgentId, command_id: CommandId, steps: Sequence[Step]) -> None:
    """Insert new steps and replace older revisions; steps of a command that is not of this agent are dropped."""
    cursor = await conn.execute(
        "select created_at from commands where id = %s and agent_id = %s", [command_id, agent_id]
    )
    command = await cursor.fetchone()
    if command is None:
        return
    columns = ", ".join(_FIELDS)
    values = ", ".join(f"%({name})s" for name in _FIELDS)
    changes = ", ".join(f"{name} = excluded.{name}" for name in _FIELDS if name != "number")
    async with conn.cursor() as many:
        await many.executemany(
            f"""insert into steps (at, command_id, changed, {columns})
                values (%(at)s, %(command)s, nextval('step_changes'), {values})
                on conflict (at, command_id, number) do update set changed = excluded.changed, {changes}
                where steps.revision < excluded.revision""".encode(),
            [
                {"at": command["created_at"], "command": command_id} | msgspec.structs.asdict(step)
                for step in newest(steps)
            ],
        )
    # The end of a turn and a message that begins have no words: those of the step before are shown on.
    telling = [step for step in steps if step.title or step.kind == "tool"]
    last = (telling or steps)[-1]
    shown = "number = excluded.number, kind = excluded.kind, name = excluded.name, title = excluded.title, "
    await conn.execute(
        f"""insert into turn_progress (command_id, agent_id, steps, number, kind, name, title, status, changed)
           select %(command)s, %(agent)s, max(number), %(number)s, %(kind)s, %(name)s, %(title)s, %(status)s,
               max(changed)
           from steps where at = %(at)s and command_id = %(command)s
           on conflict (command_id) do update
           set {shown if telling else ""} status = excluded.status, steps = excluded.steps,
               changed = excluded.changed, updated_at = now()""".encode(),
        {
            "at": command["created_at"],
            "command": command_id,
            "agent": agent_id,
            "number": last.number,
            "kind": last.kind,
            "name": last.name,
            "title": last.title,
            "status": last.status,
        },
    )


async def write_last_lines(conn: Connection, lines: Sequence[tuple[AgentId, CommandId, str]]) -> None:
    """Record the last line of each of these commands, which have no steps; other commands, and those that are not of
    this agent, are passed over."""
    await conn.execute(
        """insert into turn_progress (command_id, agent_id, steps, number, kind, name, title, status, changed)
           select commands.id, commands.agent_id, 0, 0, %s, '', said.line, 'completed', 0
           from unnest(%s::uuid[], %s::uuid[], %s::text[]) as said (agent_id, command_id, line)
           join commands on commands.id = said.command_id and commands.agent_id = said.agent_id
           where conversation_id is null
           order by commands.id
           on conflict (command_id) do update set title = excluded.title, updated_at = now()
           where turn_progress.title <> excluded.title""",
        [OUTPUT, *(list(column) for column in zip(*lines, strict=True))],
    )


async def last_lines(conn: Connection, command_ids: Collection[CommandId]) -> dict[CommandId, str]:
    """The last line of these commands, as far as one is known: of the output, or the last step in words."""
    cursor = await conn.execute(
        f"select command_id, {LAST_LINE} as line from turn_progress where command_id = any(%s)",
        [list(command_ids)],
    )
    return {CommandId(row["command_id"]): row["line"] for row in await cursor.fetchall() if row["line"]}


def newest(steps: Sequence[Step]) -> list[Step]:
    """The newest revision of each step, in the order of their numbers."""
    by_number: dict[int, Step] = {}
    for step in steps:
        if step.number not in by_number or by_number[step.number].revision < step.revision:
            by_number[step.number] = step
    return [by_number[number] for number in sorted(by_number)]


async def page(conn: Connection, command_id: CommandId, after: int, limit: int) -> list[DictRow]:
    """The steps of a command that have changed after the change `after`, in the order of their last change.

    Of a text and a result it has the beginning, and the lengths of both in characters.
    """
    cursor = await conn.execute(
        f"""select changed, {_SHORT}, left(text, %(shown)s) as text, length(text) as text_length,
                left(result, %(shown)s) as result, length(result) as result_length
            from steps
            where at = (select created_at from commands where id = %(id)s) and command_id = %(id)s
              and changed > %(after)s
            order by changed limit %(limit)s""".encode(),
        {"id": command_id, "after": after, "limit": limit, "shown": SHOWN_CHARACTERS},
    )
    return await cursor.fetchall()


async def get(conn: Connection, command_id: UUID, number: int) -> DictRow | None:
    """One step, whole."""
    cursor = await conn.execute(
        f"""select changed, {", ".join(_FIELDS)}, length(text) as text_length, length(result) as result_length
            from steps
            where at = (select created_at from commands where id = %(id)s) and command_id = %(id)s
              and number = %(number)s""".encode(),
        {"id": command_id, "number": number},
    )
    return await cursor.fetchone()


async def keep_partitions(conn: Connection) -> None:
    """Create the partitions of the coming days; drop the partitions of days that the archive has dropped."""
    await conn.execute("select keep_step_partitions(%s)", [PARTITION_DAYS])
