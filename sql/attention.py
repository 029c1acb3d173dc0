"""The tables `attention`, the requests of agents that wait for a person, and `attention_rules`, which answer later
ones.

A request is closed by one guarded UPDATE that names the state `open`: it is answered once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import to_builtins
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from onsembl.protocol.attention_messages import MAX_OPEN_REQUESTS, Asked, Decision, GivenAnswer, IdleBody
from onsembl.protocol.attention_notes import NOTES, LimitBody
from onsembl.protocol.ids import AgentId
from onsembl.sql.database import Connection

SUMMARY = """id, seq, agent_id, command_id, conversation_id, kind, title, digest, step, guess, state, asked_at,
    closed_at, decision, answered_by_kind, answered_by, answered_by_name, scope, delivery, reason"""
"""The columns that Realtime publishes."""
COLUMNS = f"{SUMMARY}, body"
RULE_COLUMNS = "id, seq, agent_id, conversation_id, rule, attention_id, created_at, created_by_name"

Scope = Literal["once", "conversation", "always"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerer:
    """Who answers a request: an operator, or a rule."""

    kind: Literal["operator", "rule"]
    id: UUID | None
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFilter:
    """A filter of requests; a field that is None matches everything."""

    state: str | None = None
    agent_id: AgentId | None = None
    command_id: UUID | None = None
    kind: str | None = None


async def ask(conn: Connection, agent_id: AgentId, asked: Asked) -> DictRow | None:
    """Record a request of the agent, and return its row; None for one that changes nothing.

    One that is repeated changes nothing. With another digest it replaces what was asked before, and is open again. A
    command that does not run asks nothing, nor does one beyond `MAX_OPEN_REQUESTS`.
    """
    kind = str(asked.body.__struct_config__.tag)
    cursor = await conn.execute(
        f"""insert into attention
                (id, agent_id, command_id, conversation_id, kind, title, body, digest, step, guess)
            select %(id)s, agent_id, id, conversation_id, %(kind)s, %(title)s, %(body)s, %(digest)s, %(step)s, %(guess)s
            from commands
            where id = %(command)s and agent_id = %(agent)s and state in ('dispatched', 'running')
              and (select count(*) from attention where agent_id = %(agent)s and state = 'open'
                     and kind <> all(%(notes)s) and id <> %(id)s)
                  < %(most)s
            for share of commands  -- the end of the command waits, and then sees this request
            on conflict (id) do update
            set kind = excluded.kind, title = excluded.title, body = excluded.body, digest = excluded.digest,
                step = excluded.step, guess = excluded.guess, state = 'open', closed_at = null, decision = null,
                secret_decision = null, answered_by_kind = null, answered_by = null, answered_by_name = null,
                scope = null, delivery = null, reason = null, asked_at = now()
            where attention.agent_id = excluded.agent_id and attention.command_id = excluded.command_id
              and (attention.state = 'withdrawn' or attention.digest <> excluded.digest)
            returning {COLUMNS}""",
        {
            "id": asked.request_id,
            "agent": agent_id,
            "command": asked.command_id,
            "kind": kind,
            "title": asked.title,
            "body": Jsonb(to_builtins(asked.body)),
            "digest": asked.digest,
            "step": asked.step,
            "guess": isinstance(asked.body, IdleBody) and asked.body.guess,
            "most": MAX_OPEN_REQUESTS,
            "notes": list(NOTES),
        },
    )
    return await cursor.fetchone()


async def withdraw(conn: Connection, agent_id: AgentId, request_id: UUID, reason: str) -> None:
    """Close an open request of the agent without an answer."""
    await conn.execute(
        """update attention set state = 'withdrawn', closed_at = now(), reason = %s
           where id = %s and agent_id = %s and state = 'open'""",
        [reason, request_id, agent_id],
    )


async def withdraw_others(conn: Connection, agent_id: AgentId, open_ids: Collection[UUID]) -> None:
    """Close the open requests of the agent that are not among these: it has given them up while it was offline."""
    await conn.execute(
        """update attention
           set state = 'withdrawn', closed_at = now(), reason = 'The agent does not wait for it any more.'
           where agent_id = %s and state = 'open' and kind <> all(%s) and not id = any(%s)""",
        [agent_id, list(NOTES), list(open_ids)],
    )


async def dismiss(conn: Connection, note_id: UUID, by_name: str) -> DictRow | None:
    """Close an open note, and return its row; None if there is no such open note."""
    cursor = await conn.execute(
        f"""update attention set state = 'withdrawn', closed_at = now(), reason = %s
            where id = %s and state = 'open' and kind = any(%s) returning {COLUMNS}""",
        [f"Dismissed by {by_name}.", note_id, list(NOTES)],
    )
    return await cursor.fetchone()


async def note_limit(conn: Connection, command_id: UUID, body: LimitBody) -> None:
    """Make the note of a failed turn the only one of its agent's usage limit."""
    await conn.execute(
        """update attention as earlier
           set state = 'withdrawn', closed_at = now(), reason = 'The agent has reached a limit again.'
           from commands where commands.id = %s and earlier.agent_id = commands.agent_id and kind = 'limit'
             and earlier.state = 'open'""",
        [command_id],
    )
    encoded = msgspec.json.encode(body)
    await conn.execute(
        """update attention set kind = 'limit', body = %s, digest = %s
           where command_id = %s and kind = 'failed' and state = 'open'""",
        [Jsonb(to_builtins(body)), sha256(encoded).hexdigest(), command_id],
    )


async def answer(
    conn: Connection,
    request_id: UUID,
    digest: str,
    decision: Decision,
    *,
    shown: Mapping[str, object],
    is_secret: bool,
    by: Answerer,
    scope: Scope,
) -> DictRow | None:
    """Answer an open request that has this digest, and return its row; None if it is not open, or has another one.

    `shown` is the decision without secret answers. With `is_secret` the whole decision is kept until the agent has it.
    """
    cursor = await conn.execute(
        f"""update attention
            set state = 'answered', closed_at = now(), decision = %(shown)s, secret_decision = %(secret)s,
                answered_by_kind = %(by_kind)s, answered_by = %(by)s, answered_by_name = %(by_name)s,
                scope = %(scope)s, delivery = 'waiting'
            where id = %(id)s and state = 'open' and digest = %(digest)s
            returning {COLUMNS}""",
        {
            "id": request_id,
            "digest": digest,
            "shown": Jsonb(dict(shown)),
            "secret": Jsonb(to_builtins(decision)) if is_secret else None,
            "by_kind": by.kind,
            "by": by.id,
            "by_name": by.name,
            "scope": scope,
        },
    )
    return await cursor.fetchone()


async def waiting_answers(conn: Connection, agent_id: AgentId) -> list[DictRow]:
    """The answers that the agent's CLI has not been given, oldest first: `id`, `command_id`, `digest`,
    `answered_by_name`, and the whole `decision`."""
    cursor = await conn.execute(
        """select id, command_id, digest, answered_by_name, coalesce(secret_decision, decision) as decision
           from attention where agent_id = %s and delivery = 'waiting' order by closed_at, seq""",
        [agent_id],
    )
    return await cursor.fetchall()


async def answer_taken(conn: Connection, agent_id: AgentId, request_id: UUID, digest: str, fate: str) -> None:
    """Record what has become of an answer, also when its command has ended before."""
    await conn.execute(
        """update attention set delivery = %s, secret_decision = null
           where id = %s and agent_id = %s and digest = %s and delivery in ('waiting', 'unknown')""",
        [fate, request_id, agent_id, digest],
    )


async def answers_given(conn: Connection, agent_id: AgentId, given: Collection[GivenAnswer]) -> None:
    """Record that the agent's CLI has these answers."""
    await conn.execute(
        """update attention set delivery = 'given', secret_decision = null
           from unnest(%s::uuid[], %s::text[]) as given (id, digest)
           where attention.id = given.id and attention.digest = given.digest and agent_id = %s
             and delivery in ('waiting', 'unknown')""",
        [[one.request_id for one in given], [one.digest for one in given], agent_id],
    )


async def agents_to_remind(conn: Connection, agent_ids: Collection[AgentId], seconds: float) -> list[AgentId]:
    """Those of the agents for which an answer has waited for longer than `seconds`."""
    cursor = await conn.execute(
        """select distinct agent_id from attention
           where delivery = 'waiting' and agent_id = any(%s) and closed_at < now() - make_interval(secs => %s)""",
        [list(agent_ids), seconds],
    )
    return [AgentId(row["agent_id"]) for row in await cursor.fetchall()]


async def page(conn: Connection, wanted: RequestFilter, after: int, limit: int) -> list[DictRow]:
    """Requests that match, with a `seq` above `after`, oldest first."""
    cursor = await conn.execute(
        f"""select {COLUMNS} from attention
            where (%(state)s::text is null or state = %(state)s)
              and (%(agent)s::uuid is null or agent_id = %(agent)s)
              and (%(command)s::uuid is null or command_id = %(command)s)
              and (%(kind)s::text is null or kind = %(kind)s)
              and seq > %(after)s
            order by seq limit %(limit)s""",
        {
            "state": wanted.state,
            "agent": wanted.agent_id,
            "command": wanted.command_id,
            "kind": wanted.kind,
            "after": after,
            "limit": limit,
        },
    )
    return await cursor.fetchall()


async def is_known(conn: Connection, agent_id: AgentId, request_id: UUID) -> bool:
    """Whether there is such a request of the agent, in any state."""
    cursor = await conn.execute("select from attention where id = %s and agent_id = %s", [request_id, agent_id])
    return await cursor.fetchone() is not None


async def get(conn: Connection, request_id: UUID) -> DictRow | None:
    """One request."""
    cursor = await conn.execute(f"select {COLUMNS} from attention where id = %s", [request_id])
    return await cursor.fetchone()


async def rules_for(conn: Connection, agent_id: AgentId, conversation_id: UUID | None) -> list[DictRow]:
    """The rules that answer requests of this conversation of the agent, oldest first."""
    cursor = await conn.execute(
        f"""select {RULE_COLUMNS} from attention_rules
            where agent_id = %s and (conversation_id is null or conversation_id = %s) order by seq""",
        [agent_id, conversation_id],
    )
    return await cursor.fetchall()


async def list_rules(conn: Connection, agent_id: AgentId | None, before: int | None, limit: int) -> list[DictRow]:
    """Rules with a `seq` below `before`, newest first; of this agent."""
    cursor = await conn.execute(
        f"""select {RULE_COLUMNS} from attention_rules
            where (%(agent)s::uuid is null or agent_id = %(agent)s)
              and (%(before)s::bigint is null or seq < %(before)s)
            order by seq desc limit %(limit)s""",
        {"agent": agent_id, "before": before, "limit": limit},
    )
    return await cursor.fetchall()


async def add_rule(
    conn: Connection, request: DictRow, rule: str, scope: Literal["conversation", "always"], by_name: str
) -> DictRow | None:
    """Let this rule answer later requests like this one; None if there is such a rule."""
    cursor = await conn.execute(
        f"""insert into attention_rules (agent_id, conversation_id, rule, attention_id, created_by_name)
            values (%s, %s, %s, %s, %s) on conflict do nothing returning {RULE_COLUMNS}""",
        [
            request["agent_id"],
            request["conversation_id"] if scope == "conversation" else None,
            rule,
            request["id"],
            by_name,
        ],
    )
    return await cursor.fetchone()


async def delete_rule(conn: Connection, rule_id: UUID) -> DictRow | None:
    """Delete a rule; return its row."""
    cursor = await conn.execute(f"delete from attention_rules where id = %s returning {RULE_COLUMNS}", [rule_id])
    return await cursor.fetchone()
