"""Adds recordings to the archive, as if an agent had sent them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from support.server import Api

from onsembl.protocol.ids import AgentId, CommandId, StreamId
from onsembl.protocol.turn_steps import Step
from onsembl.sql import archive, steps
from onsembl.sql.archive_rows import pack
from onsembl.sql.database import connect

NOON = (datetime.now(UTC) - timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
"""Noon of yesterday. Retention drops older recordings each hour, also during a test."""


async def add_stream(api: Api, agent_id: str) -> StreamId:
    async with await connect(api.database_url, role="onsembl_api") as conn:
        return await archive.create_stream(conn, AgentId(UUID(agent_id)))


async def add_output(api: Api, stream_id: StreamId, *chunks: bytes, after: float = 0.0, step: float = 1.0) -> None:
    """Add chunks, the first `after` seconds after noon, the others each `step` seconds later."""
    async with await connect(api.database_url, role="onsembl_api") as conn:
        start = await archive.end(conn, stream_id)
        times = [NOON.timestamp() + after + step * index for index in range(len(chunks))]
        await archive.write(conn, pack(stream_id, start, chunks, times))


async def add_size(api: Api, stream_id: StreamId, start: int, columns: int, rows: int) -> None:
    async with await connect(api.database_url, role="onsembl_api") as conn:
        await archive.write_sizes(conn, [archive.SizeChange(stream_id, start, NOON, columns, rows)])


async def add_command(api: Api, agent_id: str, stream_id: StreamId, text: str, start: int, end: int | None) -> str:
    """Add a command with this part of the stream as its output, and return the command's id."""
    async with await connect(api.database_url, role="onsembl_api") as conn:
        cursor = await conn.execute(
            """insert into commands (agent_id, text, state, stream_id, output_start, output_end, started_at, ended_at)
               values (%s, %s, %s, %s, %s, %s, now(), now()) returning id""",
            [agent_id, text, "running" if end is None else "succeeded", stream_id, start, end],
        )
        row = await cursor.fetchone()
        assert row is not None
        return str(row["id"])


async def add_commands(api: Api, agent_id: str, stream_id: StreamId, count: int, start: int) -> None:
    """Add commands `command 1`, `command 2`, …, each with one byte of output."""
    async with await connect(api.database_url, role="onsembl_api") as conn:
        await conn.execute(
            """insert into commands (agent_id, text, state, stream_id, output_start, output_end, started_at, ended_at)
               select %(agent)s, 'command ' || number, 'succeeded', %(stream)s,
                      %(start)s + number - 1, %(start)s + number, now(), now()
               from generate_series(1, %(count)s) as number""",
            {"agent": agent_id, "stream": stream_id, "start": start, "count": count},
        )


async def add_steps(
    api: Api, agent_id: str, command_id: str, *results: str, after: float = 0.0, ended: bool = True
) -> None:
    """Add tool steps `Bash` with these results: the first `after` seconds after noon, then one a second."""
    shown = [
        Step(
            number=number,
            revision=1,
            kind="tool",
            name="Bash",
            title=f"make {number}",
            status="completed" if ended else "in_progress",
            result=result,
            started_at=NOON + timedelta(seconds=after + number - 1),
            ended_at=NOON + timedelta(seconds=after + number) if ended else None,
            output_start=number,
            output_end=number,
        )
        for number, result in enumerate(results, start=1)
    ]
    async with await connect(api.database_url, role="onsembl_api") as conn:
        await steps.write(conn, AgentId(UUID(agent_id)), CommandId(UUID(command_id)), shown)
