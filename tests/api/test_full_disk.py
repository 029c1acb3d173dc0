"""An agent on a full disk: it stays connected, names its problem, takes nothing, goes on when there is
room, and loses and repeats no byte of its output."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

from support.agents import FINAL, Operator, agent_running, until
from support.api_calls import audit_entries, call_api
from support.archive import archived_bytes
from support.disks import mounted_disk

from onsembl.sql.database import connect

QUEUED = 200
SCRIPT = "seq 1 20000; until test -e go; do sleep 0.05; done; seq 20001 150000"
LINES = 150_000
"""Some MB of output, of which the disk takes only a part."""


async def queue(api, agent_id: str, count: int) -> None:
    """Add so many commands to the agent's queue, at once."""
    async with await connect(api.database_url) as conn:
        await conn.execute(
            "insert into commands (agent_id, text) select %s, 'true' from generate_series(1, %s)", [agent_id, count]
        )


async def states(api) -> Counter[str]:
    """How many commands are in each state; `undelivered` are those that the agent did not take."""
    async with await connect(api.database_url) as conn:
        cursor = await conn.execute("select state, delivery_attempts from commands")
        rows = await cursor.fetchall()
    return Counter(row["state"] for row in rows) + Counter(undelivered=sum(row["delivery_attempts"] for row in rows))


async def test_an_agent_on_a_full_disk_takes_nothing_until_there_is_room(api):
    """It is online and names its problem, also when it starts on the full disk. Its 200 commands stay in their queue,
    and run without a person's help when there is room; none fails."""
    operator = Operator(api, await api.operator())
    agent_id, before = "", 0

    async def problem() -> str | None:
        row = await call_api(operator, "GET", f"/v1/agents/{agent_id}")
        return row["problem"] if row["status"] == "online" else None

    async def moved() -> bool:
        return (await states(api))["succeeded"] >= before + 3

    with mounted_disk(4) as disk, ExitStack() as full:
        async with agent_running(api, disk.path) as agent:
            agent_id = agent.id
            await operator.until_state(await operator.send(agent_id, "true"), "succeeded")
        full.enter_context(disk.filled())
        async with agent_running(api, disk.path):
            assert "No space left" in str(await until(problem, "the problem at the start"))
            await queue(api, agent_id, QUEUED - 1)
            assert (await operator.send(agent_id, "true"))["state"] == "queued"
            assert await states(api) == Counter(succeeded=1, queued=QUEUED)
            full.close()
            await until(moved, "the queue")
            with disk.filled():
                assert "No space left" in str(await until(problem, "the problem of a running agent"))
                before = (await states(api))["succeeded"]
            await until(moved, "the queue")
            ends = await states(api)
    assert (ends["failed"], ends["lost"], ends["undelivered"]) == (0, 0, 0)
    assert [action for action, _ in await audit_entries(api, "agent.problem%")] == [
        "agent.problem_begun",
        "agent.problem_over",
    ] * 2


async def streams(api, agent_id: str) -> list[str]:
    """The agent's streams, in order."""
    async with await connect(api.database_url) as conn:
        rows = await conn.execute("select id from streams where agent_id = %s order by created_at", [agent_id])
        return [str(row["id"]) for row in await rows.fetchall()]


async def archived(api, agent_id: str) -> bytes:
    """All bytes of the agent in the archive, stream after stream."""
    return b"".join([await archived_bytes(api.database_url, stream) for stream in await streams(api, agent_id)])


async def test_output_is_archived_once_after_a_crash_with_a_full_disk(api, tmp_path):
    """The agent's disk fills up while a command writes, and the agent is killed; its next run repeats no byte."""
    operator = Operator(api, await api.operator())
    with mounted_disk(4) as disk:
        async with agent_running(api, disk.path) as agent:
            first = await operator.send(agent.id, SCRIPT)
            await until(lambda: _has(api, agent.id, b"\n20000\r\n"), "the first half")
            with disk.filled(keep=200):
                (disk.path / "go").touch()
                await until(lambda: _has(api, agent.id, b"\n150000\r\n"), "the second half, by way of memory")
                agent.process.kill()
                await agent.process.wait()
        async with agent_running(api, disk.path) as agent:
            assert (await operator.until_state(first, *FINAL))["state"] in ("lost", "succeeded")
            after = await operator.send(agent.id, "echo the end")
            assert (await operator.until_state(after, *FINAL))["state"] == "succeeded"
            await until(lambda: _has(api, agent.id, b"\r\nthe end\r\n"), "the next command")
        seen = await archived(api, agent.id)
        numbers = [int(line) for line in seen.split(b"\r\n") if line.isdigit()]
        assert numbers == list(range(1, LINES + 1))


async def _has(api, agent_id: str, text: bytes) -> bool:
    return text in await archived(api, agent_id)
