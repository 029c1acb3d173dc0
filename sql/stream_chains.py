"""The chain of streams that begins with a stream: `streams.continues` names the stream that was not resumed."""

from __future__ import annotations

from itertools import pairwise
from uuid import UUID

from onsembl.protocol.ids import AgentId, StreamId
from onsembl.protocol.messages import StreamTail
from onsembl.protocol.stream_chain import Link, StreamChain
from onsembl.sql.database import Connection


async def get(conn: Connection, agent_id: AgentId, named: UUID) -> StreamChain | None:
    """The chain from the stream `named` of the agent on; from the first that continues it, if only the agent knows it.

    None when there is none.
    """
    cursor = await conn.execute(
        """with recursive chain (id, at, depth) as (
               select %(named)s::uuid, 0::numeric, 0
               union all
               select streams.id, at + continues_at, depth + 1
               from chain join streams on continues = chain.id and streams.agent_id = %(agent)s
           ) cycle id set looped using path
           select chain.id, at, coalesce(ended, 0) as length
           from chain join streams using (id) left join archive_ends on stream_id = chain.id
           where agent_id = %(agent)s and not looped
           order by depth, at, created_at""",
        {"named": named, "agent": agent_id},
    )
    links = [Link(StreamId(row["id"]), int(row["at"]), row["length"]) for row in await cursor.fetchall()]
    return StreamChain(links) if links else None


async def add_unknown(conn: Connection, agent_id: AgentId, tail: StreamTail) -> None:
    """Add the agent's streams that only the agent knows, without bytes, back to the latest one that is known here.

    So the streams of the agent stay one chain after the database was restored from a backup. Without a known one
    nothing is added.
    """
    places = [(tail.id, 0), *((stream.id, stream.at) for stream in tail.earlier)]
    cursor = await conn.execute(
        "select id from streams where agent_id = %s and id = any(%s)", [agent_id, [id for id, _ in places]]
    )
    known = {row["id"] for row in await cursor.fetchall()}
    first_known = next((number for number, (id, _) in enumerate(places) if id in known), 0)
    for (id, at), (before, before_at) in pairwise(places[: first_known + 1]):
        await conn.execute(
            """insert into streams (id, agent_id, continues, continues_at) values (%s, %s, %s, %s)
               on conflict (id) do nothing""",
            [id, agent_id, before, max(0, before_at - at)],
        )
