"""The usage limits of agents' vendors: columns of `agents`, and the commands that go on after a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec import to_builtins
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.vendor_limits import MAX_CONTINUATIONS, RateWindow
from onsembl.sql.commands import COLUMNS
from onsembl.sql.database import Connection


async def set_windows(conn: Connection, agent_id: AgentId, windows: Sequence[RateWindow]) -> None:
    """Record the windows that an agent's CLI has reported."""
    await conn.execute(
        "update agents set rate_windows = %s, rate_windows_at = now() where id = %s",
        [Jsonb(to_builtins(windows)), agent_id],
    )


async def strikes(conn: Connection, agent_id: AgentId) -> tuple[int, datetime]:
    """How often the agent has reached a limit since its last successful turn, and the time. The caller has locked the
    row."""
    cursor = await conn.execute("select limit_strikes, now() as at from agents where id = %s", [agent_id])
    row = await cursor.fetchone()
    assert row is not None, "the caller has locked the row"
    return row["limit_strikes"], row["at"]


async def set_limited(conn: Connection, agent_id: AgentId, until: datetime, model: str | None) -> None:
    """Give the agent no command until then, or none of these models. At a second limit, of other models, it gets none
    until the first of both is over. The caller has locked the row."""
    await conn.execute(
        """update agents set limited_since = coalesce(limited_since, now()), limited_until = least(
                   %(until)s, case when limited_model is distinct from %(model)s then limited_until end),
               limited_model = case when limited_until is null or limited_model = %(model)s then %(model)s end,
               limit_strikes = limit_strikes + 1 where id = %(id)s""",
        {"until": until, "model": model, "id": agent_id},
    )


async def lift(conn: Connection, agent_id: AgentId) -> None:
    """The agent waits no longer; its strikes are kept. The caller has locked the row."""
    await conn.execute("update agents set limited_since = null, limited_until = null where id = %s", [agent_id])


async def lift_due(conn: Connection) -> list[DictRow]:
    """End the waiting of the agents whose time has come; return their `id` and `name`."""
    cursor = await conn.execute(
        """update agents set limited_since = null, limited_until = null where limited_until <= now()
           returning id, name"""
    )
    return await cursor.fetchall()


async def continue_command(conn: Connection, command_id: CommandId, text: str | None) -> DictRow | None:
    """Send a command again whose turn has ended at a limit, first in the queue: with this text, or as it was. None when
    it cannot be continued, or was continued too often."""
    cursor = await conn.execute(
        f"select {COLUMNS} from continue_command(%s, %s, %s)", [command_id, text, MAX_CONTINUATIONS]
    )
    return await cursor.fetchone()


async def copy_attachments(conn: Connection, source: CommandId, copy: CommandId) -> None:
    """Give the files of one command to another, too."""
    await conn.execute(
        """insert into command_attachments (command_id, attachment_id)
           select %s, attachment_id from command_attachments where command_id = %s""",
        [copy, source],
    )


@dataclass(frozen=True, slots=True)
class LimitFigures:
    """How many agents wait for a limit, and the used share of each window, by the agent's and the window's name."""

    limited: int
    used: dict[tuple[str, str], float]


async def figures(conn: Connection) -> LimitFigures:
    """Count the agents that wait, and read the windows of all agents that are not disabled."""
    cursor = await conn.execute("select count(*) as limited from agents where limited_until is not null")
    row = await cursor.fetchone()
    assert row is not None
    cursor = await conn.execute(
        """select agents.name as agent, w ->> 'name' as name, (w ->> 'used')::float8 as used
           from agents cross join jsonb_array_elements(rate_windows) as w
           where disabled_at is null and jsonb_typeof(w -> 'used') = 'number' and w ? 'name'"""
    )
    return LimitFigures(
        row["limited"], {(each["agent"], each["name"]): each["used"] for each in await cursor.fetchall()}
    )
