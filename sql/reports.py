"""The `reports` table: the reports that turns have answered with, in versions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from uuid import UUID

import msgspec
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.reports import read_report
from onsembl.sql.database import Connection
from onsembl.sql.search import pattern

COLUMNS = """id, seq, command_id, agent_id, conversation_id, preset, version, draft, superseded, title, severities,
    problem, pinned_at, pinned_by_name, created_at"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFilter:
    """A filter of reports; a field that is None matches everything. `words` occur in the answer."""

    agent_id: AgentId | None = None
    conversation_id: UUID | None = None
    command_id: CommandId | None = None
    preset: str | None = None
    words: str | None = None
    pinned: bool | None = None
    superseded: bool | None = None


async def write(
    conn: Connection, agent_id: AgentId, command_id: CommandId, text: str, omitted: int, *, draft: bool = False
) -> None:
    """Store the report of a command's turn: the next version of its conversation and preset. It supersedes the others
    once it is no `draft`. A repeated or later one of the same command replaces it, but no draft replaces a complete
    one; a command of another agent has none."""
    found = read_report(text)
    findings = found.report.findings if found.report is not None else []
    severities = Counter(finding.severity for finding in findings)
    await conn.execute(
        """with command as (
               select id, agent_id, conversation_id, preset, (
                   select coalesce(max(version), 0) + 1 from reports
                   where reports.conversation_id = commands.conversation_id
                     and reports.preset is not distinct from commands.preset and command_id <> commands.id) as version
               from commands where id = %(command)s and agent_id = %(agent)s
           ), earlier as (
               update reports set superseded = true from command
               where reports.conversation_id = command.conversation_id
                 and reports.preset is not distinct from command.preset and command_id <> command.id
                 and not %(draft)s and not superseded and reports.version < command.version
           )
           insert into reports
               (command_id, agent_id, conversation_id, preset, version, draft, title, severities, problem, report,
                text, text_omitted)
           select id, agent_id, conversation_id, preset, version, %(draft)s, %(title)s, %(severities)s, %(problem)s,
               %(report)s, %(text)s, %(omitted)s
           from command
           on conflict (command_id) do update
           set draft = excluded.draft, title = excluded.title, severities = excluded.severities,
               problem = excluded.problem, report = excluded.report, text = excluded.text,
               text_omitted = excluded.text_omitted
           where reports.draft or not excluded.draft""",
        {
            "command": command_id,
            "agent": agent_id,
            "draft": draft,
            "title": found.title,
            "severities": Jsonb(dict(severities)),
            "problem": found.problem,
            "report": Jsonb(msgspec.to_builtins(found.report)) if found.report is not None else None,
            "text": text,
            "omitted": omitted,
        },
    )


async def page(conn: Connection, wanted: ReportFilter, before: int | None, limit: int) -> list[DictRow]:
    """Reports that match, with a `seq` below `before`, newest first; without their answers."""
    cursor = await conn.execute(
        f"""select {COLUMNS} from reports
            where (%(agent)s::uuid is null or agent_id = %(agent)s)
              and (%(conversation)s::uuid is null or conversation_id = %(conversation)s)
              and (%(command)s::uuid is null or command_id = %(command)s)
              and (%(preset)s::text is null or lower(preset) = lower(%(preset)s))
              and (%(words)s::text is null or title ilike %(words)s or text ilike %(words)s)
              and (%(pinned)s::boolean is null or (pinned_at is not null) = %(pinned)s)
              and (%(superseded)s::boolean is null or superseded = %(superseded)s)
              and (%(before)s::bigint is null or seq < %(before)s)
            order by seq desc limit %(limit)s""",
        {
            "agent": wanted.agent_id,
            "conversation": wanted.conversation_id,
            "command": wanted.command_id,
            "preset": wanted.preset,
            "words": pattern(wanted.words) if wanted.words is not None else None,
            "pinned": wanted.pinned,
            "superseded": wanted.superseded,
            "before": before,
            "limit": limit,
        },
    )
    return await cursor.fetchall()


async def get(conn: Connection, report_id: UUID) -> DictRow | None:
    """One report, whole."""
    cursor = await conn.execute(f"select {COLUMNS}, report, text, text_omitted from reports where id = %s", [report_id])
    return await cursor.fetchone()


async def pin(conn: Connection, report_id: UUID, by_name: str | None) -> DictRow | None:
    """Keep the report until it is unpinned; without a name, unpin it. Return its row without the answer."""
    cursor = await conn.execute(
        f"""update reports
            set pinned_at = case when %(by)s::text is null then null else coalesce(pinned_at, now()) end,
                pinned_by_name = case when pinned_at is null or %(by)s::text is null then %(by)s
                    else pinned_by_name end
            where id = %(id)s returning {COLUMNS}""",
        {"id": report_id, "by": by_name},
    )
    return await cursor.fetchone()


async def forget(conn: Connection, days: int) -> None:
    """Delete reports that are older and not pinned."""
    await conn.execute(
        "delete from reports where pinned_at is null and created_at < now() - %s * interval '1 day'", [days]
    )
