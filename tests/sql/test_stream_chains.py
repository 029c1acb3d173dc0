"""The streams of an agent are one chain, whichever of them the database has lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from onsembl.protocol.ids import AgentId, StreamId
from onsembl.protocol.messages import EarlierStream, StreamTail
from onsembl.protocol.stream_chain import Link
from onsembl.sql import archive, stream_chains
from onsembl.sql.archive import FormerOutput
from onsembl.sql.archive_rows import pack
from onsembl.sql.database import Connection, connect


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator[Connection]:
    async with await connect(database_url, role="onsembl_api") as conn:
        yield conn


async def new_agent(conn: Connection) -> AgentId:
    cursor = await conn.execute(
        "insert into agents (name, kind) values (%s, 'shell') returning id", [f"agent-{uuid4().hex}"]
    )
    row = await cursor.fetchone()
    assert row is not None
    return AgentId(row["id"])


async def links(conn: Connection, agent_id: AgentId, named: UUID) -> list[Link] | None:
    chain = await stream_chains.get(conn, agent_id, named)
    return list(chain.links) if chain is not None else None


def tail_of(id: UUID, *earlier: tuple[UUID, int]) -> StreamTail:
    return StreamTail(id=id, start=0, end=9, earlier=[EarlierStream(id=id, at=at) for id, at in earlier])


async def test_a_chain_has_the_streams_that_continue_each_other(conn):
    """In the order of their bytes, from the named one on; other agents' streams are in none."""
    agent_id = await new_agent(conn)
    first = await archive.create_stream(conn, agent_id)
    second = await archive.create_stream(conn, agent_id, first, 3)
    third = await archive.create_stream(conn, agent_id, second, -1)
    await archive.write(conn, pack(first, 0, [b"abc"], [1e9]) + pack(third, 0, [b"de"], [1e9]))
    chain = [Link(first, 0, 3), Link(second, 3, 0), Link(third, 2, 2)]
    assert await links(conn, agent_id, first) == chain
    assert await links(conn, agent_id, second) == [Link(second, 0, 0), Link(third, -1, 2)]
    assert await links(conn, await new_agent(conn), first) is None
    assert await archive.former_output(conn, agent_id, third, first) == FormerOutput(4, 2)
    assert await archive.former_output(conn, agent_id, first, third) == FormerOutput(2, None)
    assert await archive.former_output(conn, agent_id, None, StreamId(uuid4())) == FormerOutput(0, None)


async def test_streams_that_only_the_agent_knows_are_added(conn):
    """Back to the one that the restored database has; without one there is nothing to add."""
    agent_id = await new_agent(conn)
    known = await archive.create_stream(conn, agent_id)
    lost, present = uuid4(), uuid4()
    tail = tail_of(present, (lost, 5), (known, 12), (uuid4(), 20))
    for _ in range(2):
        await stream_chains.add_unknown(conn, agent_id, tail)
        chain = [Link(known, 0, 0), Link(StreamId(lost), 7, 0), Link(StreamId(present), 12, 0)]
        assert await links(conn, agent_id, known) == chain
    unknown = tail_of(uuid4(), (uuid4(), 5))
    await stream_chains.add_unknown(conn, agent_id, unknown)
    assert await links(conn, agent_id, unknown.id) is None


async def test_an_agent_cannot_claim_a_stream_or_make_a_circle(conn):
    """A stream of another agent stays with it, and streams that continue each other in a circle are read once."""
    agent_id, other = await new_agent(conn), await new_agent(conn)
    stream = await archive.create_stream(conn, other)
    own = await archive.create_stream(conn, agent_id)
    await stream_chains.add_unknown(conn, agent_id, tail_of(stream, (own, 2)))
    assert await links(conn, agent_id, own) == [Link(own, 0, 0)]
    assert await links(conn, other, stream) == [Link(stream, 0, 0)]
    claimed = uuid4()
    second = await archive.create_stream(conn, agent_id, StreamId(claimed), 1)
    await stream_chains.add_unknown(conn, agent_id, tail_of(claimed, (second, 1)))
    assert await links(conn, agent_id, claimed) == [Link(StreamId(claimed), 0, 0), Link(second, 1, 0)]
    assert await archive.former_output(conn, agent_id, second, StreamId(claimed)) == FormerOutput(1, 1)
