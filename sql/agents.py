"""The `agents` table: enrolled runners, their presence and their terminal.

Only the API instance with the agent's connection writes its presence, under the epoch that the connection received: the
writes of an older connection change no row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, LiteralString

from msgspec import to_builtins
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from onsembl.protocol.files import FileRules
from onsembl.protocol.ids import AgentId, Epoch, InstanceId, StreamId
from onsembl.protocol.limits import CommandLimits
from onsembl.protocol.messages import Hello
from onsembl.protocol.ownership import Presence
from onsembl.protocol.permissions import PermissionMode
from onsembl.protocol.tool_rules import ToolRules
from onsembl.sql.database import Connection

COLUMNS = """id, name, kind, mode, host, platform, version, created_at, disabled_at, status, epoch, instance_id,
    connected_at, disconnected_at, stream_id, columns, rows, paused_at, paused_by_name,
    labels, limits, permission_mode, rules, problem, problem_since, takes_steers, takes_rules,
    takes_attachments, rate_windows, rate_windows_at, limited_since, limited_until, limited_model, cli, takes_forks,
    shows_files, file_rules, folder, branch"""


async def list_agents(conn: Connection) -> list[DictRow]:
    """Every agent, by name."""
    cursor = await conn.execute(f"select {COLUMNS} from agents order by name")
    return await cursor.fetchall()


async def get(conn: Connection, agent_id: AgentId) -> DictRow | None:
    """One agent's row."""
    cursor = await conn.execute(f"select {COLUMNS} from agents where id = %s", [agent_id])
    return await cursor.fetchone()


async def create(conn: Connection, *, name: str, kind: str, mode: str, host: str, platform: str) -> DictRow | None:
    """Enrol an agent; None when the name is taken."""
    cursor = await conn.execute(
        f"""insert into agents (name, kind, mode, host, platform)
            values (%s, %s, %s, %s, %s)
            on conflict (name) do nothing
            returning {COLUMNS}""",
        [name, kind, mode, host, platform],
    )
    return await cursor.fetchone()


async def named(conn: Connection, name: str) -> DictRow | None:
    """The agent of this name, locked until the transaction ends."""
    cursor = await conn.execute(f"select {COLUMNS} from agents where name = %s for update", [name])
    return await cursor.fetchone()


async def lock(conn: Connection, agent_id: AgentId) -> DictRow | None:
    """Lock the agent's row until the transaction ends; every change of the agent's queue requires this lock.

    Besides `COLUMNS`, the row has `tokens_after`, `boot` and `attempt`.
    """
    cursor = await conn.execute(
        f"select {COLUMNS}, tokens_after, boot, attempt from agents where id = %s for update", [agent_id]
    )
    return await cursor.fetchone()


async def connected(
    conn: Connection, agent_id: AgentId, instance_id: InstanceId, hello: Hello, stream_id: StreamId
) -> Epoch:
    """Mark the agent online on this instance under a new epoch, which is returned."""
    cursor = await conn.execute(
        """update agents set
            epoch = epoch + 1, status = 'online', instance_id = %(instance_id)s, connected_at = now(),
            disconnected_at = null, stream_id = %(stream_id)s, kind = %(kind)s, mode = %(mode)s, host = %(host)s,
            platform = %(platform)s, version = %(version)s, columns = %(columns)s, rows = %(rows)s,
            takes_steers = %(takes_steers)s, takes_rules = %(takes_rules)s,
            takes_attachments = %(takes_attachments)s, cli = %(cli)s,
            takes_forks = %(takes_forks)s, shows_files = %(shows_files)s, folder = %(folder)s, branch = %(branch)s,
            boot = %(boot)s, attempt = %(attempt)s
        where id = %(agent_id)s
        returning epoch""",
        {
            "agent_id": agent_id,
            "instance_id": instance_id,
            "stream_id": stream_id,
            "kind": hello.kind,
            "mode": hello.mode,
            "host": hello.host,
            "platform": hello.platform,
            "version": hello.version,
            "columns": hello.columns,
            "rows": hello.rows,
            "takes_steers": hello.takes_steers,
            "takes_rules": hello.takes_rules,
            "takes_attachments": hello.takes_attachments,
            "cli": hello.cli,
            "takes_forks": hello.takes_forks,
            "shows_files": hello.shows_files,
            "folder": hello.folder,
            "branch": hello.branch,
            "boot": hello.boot,
            "attempt": hello.attempt,
        },
    )
    row = await cursor.fetchone()
    assert row is not None, "the caller has locked the row"
    return Epoch(row["epoch"])


async def epochs_elsewhere(
    conn: Connection, instance_id: InstanceId, agent_ids: Collection[AgentId]
) -> dict[AgentId, Epoch]:
    """The newest epochs of those of these agents that are not connected to this instance."""
    cursor = await conn.execute(
        "select id, epoch from agents where id = any(%s) and instance_id is distinct from %s",
        [list(agent_ids), instance_id],
    )
    return {AgentId(row["id"]): Epoch(row["epoch"]) for row in await cursor.fetchall()}


async def disconnected(conn: Connection, agent_id: AgentId, epoch: Epoch) -> bool:
    """Mark the agent offline if `epoch` is still the newest; return whether it was."""
    cursor = await conn.execute(
        """update agents set status = 'offline', instance_id = null, disconnected_at = now()
           where id = %s and epoch = %s and status = 'online'""",
        [agent_id, epoch],
    )
    return cursor.rowcount == 1


async def resized(conn: Connection, agent_id: AgentId, epoch: Epoch, columns: int, rows: int) -> None:
    """Record the size of the agent's pseudo-terminal."""
    await conn.execute(
        "update agents set columns = %s, rows = %s where id = %s and epoch = %s", [columns, rows, agent_id, epoch]
    )


async def set_branch(conn: Connection, agent_id: AgentId, epoch: Epoch, branch: str) -> None:
    """Record the git branch of the agent's working folder."""
    await conn.execute("update agents set branch = %s where id = %s and epoch = %s", [branch, agent_id, epoch])


async def set_problem(conn: Connection, agent_id: AgentId, problem: str | None) -> None:
    """Record why the agent takes no command; None when it does. The caller has locked the row."""
    await conn.execute(
        """update agents set problem = %(problem)s,
               problem_since = case when %(problem)s::text is not null then coalesce(problem_since, now()) end
           where id = %(id)s""",
        {"problem": problem, "id": agent_id},
    )


async def refuse_tokens_before(conn: Connection, agent_id: AgentId, at: float) -> None:
    """Reject the agent's access tokens issued before `at` (Unix time)."""
    await conn.execute("update agents set tokens_after = to_timestamp(%s) where id = %s", [at, agent_id])


async def disable(conn: Connection, agent_id: AgentId) -> DictRow | None:
    """Disable the agent; return its row, None when the agent does not exist."""
    cursor = await conn.execute(
        f"update agents set disabled_at = coalesce(disabled_at, now()) where id = %s returning {COLUMNS}", [agent_id]
    )
    return await cursor.fetchone()


async def enable(conn: Connection, agent_id: AgentId) -> DictRow | None:
    """Undo `disable`."""
    cursor = await conn.execute(f"update agents set disabled_at = null where id = %s returning {COLUMNS}", [agent_id])
    return await cursor.fetchone()


async def rename(conn: Connection, agent_id: AgentId, name: str) -> DictRow | None:
    """Give the agent another name; return its row, None when another agent has the name. The caller has locked the row.

    Schedules that name the agent name it by its new name.
    """
    cursor = await conn.execute(
        f"""with before as (select id, name from agents where id = %(id)s),
            renamed as (
                update agents set name = %(name)s
                where id = %(id)s and not exists (select from agents where name = %(name)s and id <> %(id)s)
                returning {COLUMNS}),
            named as (
                update schedules set target = jsonb_set(target, '{{agents}}', (
                    select jsonb_agg(case when each = to_jsonb(before.name) then to_jsonb(%(name)s::text) else each end)
                    from jsonb_array_elements(target -> 'agents') as each))
                from before, renamed where target -> 'agents' ? before.name)
            select * from renamed""",
        {"id": agent_id, "name": name},
    )
    return await cursor.fetchone()


async def delete(conn: Connection, agent_id: AgentId) -> None:
    """Delete the agent with its commands, conversations, requests, reports and streams. The caller has locked the
    row."""
    await conn.execute("delete from agents where id = %s", [agent_id])


async def set_labels(conn: Connection, agent_id: AgentId, labels: Sequence[str]) -> DictRow | None:
    """Replace the agent's labels; return its row, None when the agent does not exist."""
    cursor = await conn.execute(
        f"update agents set labels = %s where id = %s returning {COLUMNS}", [list(labels), agent_id]
    )
    return await cursor.fetchone()


async def set_permission_mode(conn: Connection, agent_id: AgentId, mode: PermissionMode) -> DictRow | None:
    """Set how far the agent may go, also for its queued commands; return the agent's row, None when the agent does not
    exist."""
    cursor = await conn.execute(
        f"update agents set permission_mode = %s where id = %s returning {COLUMNS}", [mode, agent_id]
    )
    row = await cursor.fetchone()
    await conn.execute(
        """update commands set turn = turn || jsonb_build_object('permission_mode', %(mode)s::text)
           where agent_id = %(agent)s and state = 'queued'
             and permission_rank(turn ->> 'permission_mode') > permission_rank(%(mode)s)""",
        {"mode": mode, "agent": agent_id},
    )
    return row


async def set_rules(conn: Connection, agent_id: AgentId, rules: ToolRules) -> DictRow | None:
    """Set the rules of all commands of the agent; return the agent's row, None when the agent does not exist."""
    cursor = await conn.execute(
        f"update agents set rules = %s where id = %s returning {COLUMNS}", [Jsonb(to_builtins(rules)), agent_id]
    )
    return await cursor.fetchone()


async def set_file_rules(conn: Connection, agent_id: AgentId, rules: FileRules) -> DictRow | None:
    """Set what operators see of the agent's working folder; return the agent's row, None when it does not exist."""
    cursor = await conn.execute(
        f"update agents set file_rules = %s where id = %s returning {COLUMNS}", [Jsonb(to_builtins(rules)), agent_id]
    )
    return await cursor.fetchone()


async def set_limits(conn: Connection, agent_id: AgentId, limits: CommandLimits) -> DictRow | None:
    """Set the limits of the agent's commands; return the agent's row, None when the agent does not exist."""
    cursor = await conn.execute(
        f"update agents set limits = %s where id = %s returning {COLUMNS}", [Jsonb(to_builtins(limits)), agent_id]
    )
    return await cursor.fetchone()


async def matching(
    conn: Connection, *, names: Sequence[str] | None = None, labels: Sequence[str] | None = None
) -> list[DictRow]:
    """The enabled agents with these names or ids, those with all of these labels, or all enabled agents."""
    cursor = await conn.execute(
        f"""select {COLUMNS} from agents
            where disabled_at is null
              and (%(names)s::text[] is null or name = any(%(names)s) or id::text = any(%(names)s))
              and (%(labels)s::text[] is null or labels @> %(labels)s)
            order by id""",
        {"names": names, "labels": labels},
    )
    return await cursor.fetchall()


async def pause(conn: Connection, agent_id: AgentId, by: str) -> DictRow:
    """Pause the agent and return its row. The caller has locked the row. The first operator who paused the agent is
    kept."""
    return await _pause(conn, agent_id, "coalesce(paused_at, now())", by)


async def resume(conn: Connection, agent_id: AgentId) -> DictRow:
    """Undo `pause`; return the agent's row. The caller has locked the row."""
    return await _pause(conn, agent_id, "null", None)


async def _pause(conn: Connection, agent_id: AgentId, at: LiteralString, by: str | None) -> DictRow:
    cursor = await conn.execute(
        f"""update agents set
                paused_at = {at}, paused_by_name = case when paused_at is null then %s::text
                    when %s::text is null then null else paused_by_name end
            where id = %s
            returning {COLUMNS}""",
        [by, by, agent_id],
    )
    row = await cursor.fetchone()
    assert row is not None, "the caller has locked the row"
    return row


async def revoked_since(conn: Connection, issued_at: Mapping[AgentId, float]) -> list[DictRow]:
    """The agents among `issued_at` that are `disabled`, or whose access tokens of the given time (Unix time) are
    rejected."""
    cursor = await conn.execute(
        """select id, disabled_at is not null as disabled
           from agents join unnest(%s::uuid[], %s::float8[]) as token (id, issued_at) using (id)
           where disabled_at is not null or to_timestamp(token.issued_at) < tokens_after""",
        [list(issued_at), list(issued_at.values())],
    )
    return await cursor.fetchall()


async def online_at(conn: Connection, agent_id: AgentId) -> InstanceId | None:
    """The instance that holds the agent's connection; None when it is offline."""
    cursor = await conn.execute("select instance_id from agents where id = %s and status = 'online'", [agent_id])
    row = await cursor.fetchone()
    return row["instance_id"] if row else None


async def mark_offline(conn: Connection, dead: Collection[InstanceId]) -> list[dict[str, Any]]:
    """Mark offline the agents of instances that are removed or among `dead`; return their ids and names."""
    cursor = await conn.execute(
        """update agents set status = 'offline', instance_id = null, disconnected_at = now()
           where status = 'online' and (
               instance_id = any(%s) or not exists (select from instances where instances.id = agents.instance_id))
           returning id, name""",
        [list(dead)],
    )
    return await cursor.fetchall()


async def presence(conn: Connection, instance_id: InstanceId, held: Collection[AgentId]) -> dict[AgentId, Presence]:
    """The presence of the agents in `held`, and of all agents that are connected to this instance."""
    cursor = await conn.execute(
        """select id, epoch, case when status = 'online' then instance_id end as instance_id from agents
           where id = any(%s) or (status = 'online' and instance_id = %s)""",
        [list(held), instance_id],
    )
    return {AgentId(row["id"]): Presence(Epoch(row["epoch"]), row["instance_id"]) for row in await cursor.fetchall()}
