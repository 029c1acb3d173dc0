"""A crash on a full disk: the archive has each byte of an agent once."""

from __future__ import annotations

from support.agents import FINAL, Operator, agent_running, until
from support.archive import archived_bytes
from support.disks import mounted_disk

from onsembl.sql.database import connect

SCRIPT = "seq 1 20000; until test -e go; do sleep 0.05; done; seq 20001 150000"
LINES = 150_000
"""Some MB of output, of which the disk takes only a part."""


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
