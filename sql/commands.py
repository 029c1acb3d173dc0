"""The `commands` table: an operator's instruction to one agent, from queued to a final state.

Each change of state is one guarded UPDATE that names the states it may leave, so a final state never changes. Each
change is notified on `CHANGED`. The payload is the command's id; if the listeners need only the new state, a space and
the state follow.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime
from uuid import UUID

from msgspec import ValidationError, convert, to_builtins
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from onsembl.protocol.command_messages import MAX_STEERS
from onsembl.protocol.ids import AgentId, CommandId, OperatorId, StreamId
from onsembl.protocol.limits import CommandLimits, LimitName, received
from onsembl.protocol.messages import Ended, WorkClockState
from onsembl.protocol.overdue import LimitedCommand
from onsembl.protocol.usage import Usage
from onsembl.sql.audit import Actor
from onsembl.sql.database import Connection
from onsembl.sql.steers import STILL_EDITABLE
from onsembl.sql.tool_policies import IN_FORCE

CHANGED = "onsembl_command"
RUN_COMMAND = "onsembl:run_command"
"""The task whose jobs run commands."""

COLUMNS = """id, seq, agent_id, text, priority, state, requested_by, requested_by_name, created_at, dispatched_at,
    started_at, ended_at, cancel_requested_at, cancel_requested_by, cancel_reason, cancel_step, exit_code, signal,
    error, stream_id, output_start, output_end, usage, job_id, delivery_attempts, group_id, preset, position, revision,
    note, tags, request_id, limits, limit_passed, conversation_id, turn, denied, denials, steers,
    steer_state, steer_step, continues"""


async def request(
    conn: Connection,
    agent_id: AgentId,
    *,
    text: str,
    priority: int,
    preset: str | None,
    request_id: str | None,
    limits: CommandLimits,
    conversation: str,
    settings: Mapping[str, object],
    actor: Actor,
    detail: Mapping[str, object],
    steer: bool = False,
) -> DictRow | None:
    """Put a command in the agent's queue, record that in the audit log with this detail, and promote the head of the
    queue as `promote` does; return the command's row.

    `conversation` is `new`, `latest` or an id; `settings` has the `model` and the `effort`, if any. Return None, and
    change nothing, when the agent does not exist, is disabled, does not have this conversation, or takes no settings.

    With `steer` the command is a text for the turn that the agent runs, with the settings of that turn. If no turn of
    this conversation runs, it is an ordinary command. None comes back, too, when the turn has `MAX_STEERS` texts.
    """
    function, last = ("request_steer", "%(most)s") if steer else ("request_turn", "%(settings)s")
    cursor = await conn.execute(
        f"""select {COLUMNS} from {function}(
                %(agent_id)s, %(text)s, %(priority)s, %(preset)s, %(request_id)s, %(limits)s, %(task)s,
                %(by_kind)s, %(by_id)s, %(by_name)s, %(address)s, %(detail)s, %(conversation)s, {last})""",
        {
            "agent_id": agent_id,
            "text": text,
            "priority": priority,
            "preset": preset,
            "request_id": request_id,
            "limits": Jsonb(to_builtins(limits)),
            "task": RUN_COMMAND,
            "by_kind": actor.kind,
            "by_id": actor.id,
            "by_name": actor.name,
            "address": actor.address,
            "detail": Jsonb(dict(detail)),
            "conversation": conversation,
            "settings": Jsonb(dict(settings)),
            "most": MAX_STEERS,
        },
    )
    return await cursor.fetchone()


async def get(conn: Connection, command_id: CommandId) -> DictRow | None:
    """One command's row."""
    cursor = await conn.execute(f"select {COLUMNS} from commands where id = %s", [command_id])
    return await cursor.fetchone()


async def active(conn: Connection, agent_ids: Collection[AgentId]) -> list[DictRow]:
    """The commands that occupy these agents: at most one each. A row has the agent's `agent_rules` and `agent_mode`,
    and in `denied_tools` the rules of the policies that deny it tools, too."""
    cursor = await conn.execute(
        f"""select {COLUMNS}, agent_rules, agent_mode, denied_tools
            from commands
            join (
                select id as owner, rules as agent_rules, permission_mode as agent_mode,
                       array(select rule from tool_policies as p where verdict = 'deny' and {IN_FORCE} order by p.seq)
                           as denied_tools
                from agents
            ) as owners on owner = agent_id
            where agent_id = any(%s) and state in ('dispatched', 'running')""",
        [list(agent_ids)],
    )
    return await cursor.fetchall()


async def promote(conn: Connection, agent_id: AgentId) -> DictRow | None:
    """Make the head of the agent's queue `dispatched` and give it a job, if the agent is online, free, not paused,
    without a problem and at no limit of its vendor for the command's model, and the fleet is not halted; return the
    command's row. The caller has locked the agent's row (`agents.lock`). At a limit, the queued commands that are not
    to wait fail.

    Only the head has a job: Procrastinate's fetch looks at every waiting job whose lock is taken, so a job for each
    queued command would make each fetch slower by the length of every queue.
    """
    cursor = await conn.execute(f"select {COLUMNS} from promote(%s, %s)", [agent_id, RUN_COMMAND])
    return await cursor.fetchone()


async def idle_queues(conn: Connection) -> list[AgentId]:
    """The agents that have queued commands and are free to take one."""
    cursor = await conn.execute(
        """select id from agents
           where status = 'online' and disabled_at is null and paused_at is null and problem is null
             and not exists (select from halts where lifted_at is null)
             and exists (
                 select from commands
                 where agent_id = agents.id and state = 'queued' and coalesce(steer_state, 'late') = 'late'
                   and (limited_until is null or not limit_is_of(limited_model, turn)))
             and not exists (
                 select from commands where agent_id = agents.id and state in ('dispatched', 'running'))
           order by id"""
    )
    return [AgentId(row["id"]) for row in await cursor.fetchall()]


async def defer(conn: Connection, agent_id: AgentId, command_id: CommandId) -> None:
    """Give a command that occupies its agent a new job in place of a lost one. One job of an agent runs at a time."""
    await conn.execute(
        "update commands set job_id = defer_command(%s, %s, %s) where id = %s",
        [agent_id, command_id, RUN_COMMAND, command_id],
    )


async def accepted(
    conn: Connection,
    agent_id: AgentId,
    command_id: CommandId,
    stream_id: StreamId,
    started_at: datetime,
    output_start: int,
    *,
    may_lose: bool = False,
) -> DictRow | None:
    """Record that the agent runs the command; return None when the command is over or belongs to another agent, else
    whether texts wait for its turn, as `steered`.

    With `may_lose`, the transaction does not wait for the disk: a crash of Postgres may undo it, and the agent reports
    again. The command started at `started_at` by the agent's clock, but not before its dispatch and not after now. No
    notification is sent, because commits that notify wait for each other. The job reads the row when the acceptance is
    overdue.
    """
    cursor = await conn.execute(
        """with accepted as (
               update commands
               set state = 'running', stream_id = %(stream_id)s,
                   output_start = %(output_start)s,
                   started_at = (bounded_times(%(started_at)s, %(started_at)s, null, dispatched_at, now())).begun
               where id = %(id)s and agent_id = %(agent_id)s and state = 'dispatched'
               returning id)
           select id, exists (
                   select from commands where steers = %(id)s and steer_state in ('waiting', 'given')) as steered,
               case when %(may_lose)s then set_config('synchronous_commit', 'off', true) end
           from (
               select id from accepted
               union all
               select id from commands
               where id = %(id)s and agent_id = %(agent_id)s and state = 'running') as running""",
        {
            "id": command_id,
            "agent_id": agent_id,
            "stream_id": stream_id,
            "started_at": started_at,
            "output_start": output_start,
            "may_lose": may_lose,
        },
    )
    return await cursor.fetchone()


async def ended(
    conn: Connection, agent_id: AgentId, end: Ended, actor: Actor, *, promote_next: bool
) -> tuple[DictRow, DictRow | None] | None:
    """Record the result that the agent reports, also in the audit log, and notify the processes that wait for the
    command; return the command's row, None when a result was recorded before. With `promote_next`, the head of the
    queue is promoted as `promote` does, and its row is returned, too.

    A command that the server stopped at a limit has timed out, even if the agent reports that it was cancelled.
    """
    cursor = await conn.execute(
        f"""select {COLUMNS} from end_steered_turn(
                %(agent_id)s, %(id)s, %(outcome)s, %(started_at)s, %(ended_at)s, %(exit_code)s, %(signal)s, %(error)s,
                %(output_start)s, %(output_end)s, %(usage)s, %(limit)s, %(channel)s, %(task)s,
                %(by_name)s, %(address)s, %(turn)s, %(steers)s)""",
        {
            "agent_id": agent_id,
            "id": end.command_id,
            "outcome": end.outcome,
            "started_at": end.started_at,
            "ended_at": end.ended_at,
            "exit_code": end.exit_code,
            "signal": end.signal,
            "error": end.error,
            "output_start": end.output_start,
            "output_end": end.output_end,
            "usage": Jsonb(to_builtins(end.usage)) if end.usage else None,
            "limit": received(end.limit) if end.limit is not None else None,
            "channel": CHANGED,
            "task": RUN_COMMAND if promote_next else None,
            "by_name": actor.name,
            "address": actor.address,
            "turn": Jsonb(to_builtins(end.turn)) if end.turn else None,
            "steers": Jsonb(to_builtins(end.steers)) if end.steers is not None else None,
        },
    )
    row = await cursor.fetchone()
    return (row, await cursor.fetchone()) if row is not None else None


async def place_output(conn: Connection, command_id: CommandId, stream_id: StreamId) -> None:
    """Record the stream with the output of a command that has ended, unless it is known."""
    await conn.execute(
        "update commands set stream_id = %s where id = %s and stream_id is null and output_end is not null",
        [stream_id, command_id],
    )


async def used(conn: Connection, agent_id: AgentId, command_id: CommandId, usage: Usage) -> None:
    """Record the usage of a running command so far. The transaction does not wait for the disk: a crash of Postgres
    may undo it, and the agent reports again. A cost that the CLI does not report is estimated by the prices."""
    await conn.execute(
        """update commands
           set usage = %(usage)s,
               over_at = case
                   when %(tokens)s > (limits ->> 'tokens')::bigint
                       or limits ? 'cost_usd' and usage_cost(%(usage)s) > (limits ->> 'cost_usd')::float8
                   then coalesce(over_at, now()) end
           where id = %(id)s and agent_id = %(agent_id)s and state = 'running'
           returning set_config('synchronous_commit', 'off', true)""",
        {
            "usage": Jsonb(to_builtins(usage)),
            "tokens": usage.tokens,
            "id": command_id,
            "agent_id": agent_id,
        },
    )


async def clock_told(conn: Connection, agent_id: AgentId, state: WorkClockState) -> None:
    """Record whether the working time of a running command stands still, and how long it did. As with `used`, a crash
    of Postgres may undo it; the agent tells it again on its next connection."""
    await conn.execute(
        """update commands set stands_still = %s, stood_still = %s
           where id = %s and agent_id = %s and state = 'running'
           returning set_config('synchronous_commit', 'off', true)""",
        [state.stands_still, state.stood_still_seconds, state.command_id, agent_id],
    )


async def undelivered(conn: Connection, command_id: CommandId, final: bool) -> int | None:
    """Count an offer that the agent did not accept, and with `final`, fail the command: also one that was not made,
    because the agent's program does not take what goes with the turn.

    Return the count; None when the command no longer waits for acceptance.
    """
    cursor = await conn.execute(
        """update commands
           set delivery_attempts = delivery_attempts + 1,
               state = case when %(final)s then 'failed' else state end,
               ended_at = case when %(final)s then now() end,
               error = case when %(final)s then (
                   select case
                       when not takes_rules and (rules <> '{}' or turn -> 'rules' <> '{}') then
                           'The agent does not hold its coding CLI to rules: its version is older. Update it.'
                       when not takes_attachments and turn -> 'attachments' <> '[]' then
                           'The agent gives its coding CLI no files: its version is older. Update it.'
                       else 'The agent did not take the command up.' end
                   from agents where agents.id = agent_id) end
           where id = %(id)s and state = 'dispatched'
           returning delivery_attempts""",
        {"id": command_id, "final": final},
    )
    row = await cursor.fetchone()
    return row["delivery_attempts"] if row else None


async def request_cancel(
    conn: Connection, command_id: CommandId, operator_id: OperatorId, reason: str | None
) -> DictRow | None:
    """Cancel a queued command at once; record the cancel request of an active one. None when the command is over.

    A second request changes nothing: the operator of the first request is kept. A text that was given to a running turn
    cannot be cancelled: None.
    """
    cursor = await conn.execute(
        f"""update commands
            set cancel_requested_at = coalesce(cancel_requested_at, now()),
                cancel_requested_by = case when cancel_requested_at is null then %(by)s else cancel_requested_by end,
                cancel_reason = case when cancel_requested_at is null then %(reason)s else cancel_reason end,
                state = case state when 'queued' then 'cancelled' else state end,
                ended_at = case state when 'queued' then now() end
            where id = %(id)s and state in ('queued', 'dispatched', 'running') and {STILL_EDITABLE}
            returning {COLUMNS}""",
        {"id": command_id, "by": operator_id, "reason": reason},
    )
    return await cursor.fetchone()


async def cancel_queued(conn: Connection, agent_id: AgentId, operator_id: UUID | None, reason: str | None) -> int:
    """Cancel every command in the agent's queue; return their number. The caller has locked the agent's row."""
    cursor = await conn.execute(
        f"""update commands
            set state = 'cancelled', ended_at = now(), cancel_requested_at = now(), cancel_requested_by = %s,
                cancel_reason = %s
            where agent_id = %s and state = 'queued' and {STILL_EDITABLE}""",
        [operator_id, reason, agent_id],
    )
    return cursor.rowcount


async def cancel_step(conn: Connection, agent_id: AgentId, command_id: CommandId, step: dict[str, object]) -> bool:
    """Record the step of the escalation that the agent reached; return whether the command is still running.

    The step's time is after the command's start and not after now, whatever the agent's clock says.
    """
    cursor = await conn.execute(
        """update commands
           set cancel_step = %(step)s || jsonb_build_object('at', (bounded_times(
               null, (%(step)s ->> 'at')::timestamptz, null, coalesce(started_at, dispatched_at), now())).finished)
           where id = %(id)s and agent_id = %(agent_id)s and state in ('dispatched', 'running')""",
        {"step": Jsonb(step), "id": command_id, "agent_id": agent_id},
    )
    return cursor.rowcount == 1


async def settle_unreported(conn: Connection, agent_id: AgentId, known: Collection[UUID]) -> list[DictRow]:
    """Settle the commands that a reconnecting agent reports in neither list of its `hello`; return the changed rows.

    A command that was only dispatched never reached the agent: it is queued again, or cancelled if that was requested.
    A command that ran is lost, and its output ends where the archive ends.
    """
    cursor = await conn.execute(
        f"""update commands
            set state = case
                    when state = 'running' then 'lost'
                    when cancel_requested_at is not null then 'cancelled'
                    else 'queued' end,
                ended_at = case when state = 'running' or cancel_requested_at is not null then now() end,
                error = case when state = 'running' then 'The agent came back without it.' end,
                output_end = case when state = 'running' then greatest(output_start, (
                    select ended from archive_ends where archive_ends.stream_id = commands.stream_id)) end,
                job_id = null
            where agent_id = %s and state in ('dispatched', 'running') and id <> all(%s::uuid[])
            returning {COLUMNS}""",
        [agent_id, list(known)],
    )
    return await cursor.fetchall()


async def without_job(conn: Connection) -> list[DictRow]:
    """Commands that occupy an agent without a waiting or running job, locked until the transaction ends."""
    cursor = await conn.execute(
        f"""select {COLUMNS} from commands
            where state in ('dispatched', 'running')
              and not exists (
                  select from procrastinate_jobs
                  where procrastinate_jobs.id = commands.job_id and status in ('todo', 'doing'))
            for update skip locked"""
    )
    return await cursor.fetchall()


async def notify_changed(conn: Connection, command_id: CommandId) -> None:
    """Notify the processes that wait for this command, when the transaction commits, to read its row."""
    await conn.execute("select pg_notify(%s, %s)", [CHANGED, str(command_id)])


async def limited(conn: Connection) -> dict[CommandId, LimitedCommand]:
    """The running commands with limits that are not being cancelled."""
    cursor = await conn.execute(
        """select commands.id, commands.limits, instances.xmin::text as heartbeat,
                  case when status = 'online' then format('%s %s', epoch, reached_since) end as connection,
                  agents.stream_id as present_stream,
                  (select ended from archive_ends where archive_ends.stream_id = agents.stream_id) as output_end,
                  coalesce(stands_still, open.oldest is not null) as stands_still,
                  coalesce(stood_still, 0) as stood_still, open.oldest,
                  case when over_at is null then null
                      when usage_cost(usage) > (commands.limits ->> 'cost_usd')::float8 then 'cost_usd'
                      else 'tokens' end as over
           from commands
           join agents on agents.id = agent_id
           left join instances on instances.id = instance_id
           left join lateral (select attention.id as oldest from attention
                              where command_id = commands.id and state = 'open'
                                and kind not in ('idle', 'failed', 'limit')
                              order by seq limit 1) as open on true
           where commands.state = 'running' and commands.limits <> '{}' and cancel_requested_at is null"""
    )
    found: dict[CommandId, LimitedCommand] = {}
    for row in await cursor.fetchall():
        with suppress(ValidationError):  # limits that cannot be read stop nothing, nor keep other commands' from it
            found[CommandId(row["id"])] = LimitedCommand(
                convert(row["limits"], CommandLimits),
                row["connection"],
                row["heartbeat"],
                (row["present_stream"], row["output_end"]),
                row["over"],
                row["stands_still"],
                row["stood_still"],
                row["oldest"],
            )
    return found


async def stop_at(conn: Connection, command_id: CommandId, limit: LimitName, reason: str) -> DictRow | None:
    """Request the cancellation of a running command at its limit, without an operator; None when the command is
    over."""
    cursor = await conn.execute(
        f"""update commands set limit_passed = %s, cancel_requested_at = now(), cancel_reason = %s
            where id = %s and state = 'running' and cancel_requested_at is null
            returning {COLUMNS}""",
        [limit, reason, command_id],
    )
    return await cursor.fetchone()
