"""A command's way from the REST API through the queue to a real agent's process, and back."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from chaos import writer
from chaos.writer import BEGIN, expected
from support.agents import FINAL, CuttableLink, Operator, agent_running, read_until, sleepers, until
from support.archive import until_archived
from support.frames import attach
from support.server import running

WRITER = Path(writer.__file__)


@pytest.fixture
async def operator(api) -> Operator:
    return Operator(api, await api.operator())


async def test_a_command_runs_and_its_output_is_seen(api, operator, tmp_path):
    """The viewer receives the output, and the command's row has its outcome and the range of its output."""
    async with agent_running(api, tmp_path) as agent, api.terminal_socket(agent.id) as viewer:
        attached = await attach(viewer, operator.headers["Authorization"].removeprefix("Bearer "))
        assert attached["mode"] == "tail"
        command = await operator.send(agent.id, "echo $((40 + 2)); exit 3")
        seen = await read_until(viewer, b"exit 3 \xc2\xb7")
        assert b"\r\n42\r\n" in seen
        row = await operator.until_state(command, *FINAL)
        assert (row["state"], row["exit_code"]) == ("failed", 3)
        assert 0 < row["output_start"] + 1 < row["output_end"]


async def test_commands_of_one_agent_run_in_order_of_priority(api, operator, tmp_path):
    """Commands of one agent run one at a time, by priority and then in the order of their creation."""
    agent_id = None
    async with agent_running(api, tmp_path) as agent:
        agent_id = agent.id
    log = tmp_path / "log"
    commands = [
        await operator.send(agent_id, f"echo {name} >> {log}", priority=priority)
        for name, priority in (("c", 9), ("a", 1), ("b", 5), ("b2", 5))
    ]
    async with agent_running(api, tmp_path):
        for command in commands:
            assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"
    assert log.read_text().split() == ["a", "b", "b2", "c"]


async def test_a_running_command_is_cancelled_when_its_processes_are_gone(api, operator, tmp_path):
    """A command is `cancelled` only after its last process has ended."""
    async with agent_running(api, tmp_path) as agent:
        command = await operator.send(agent.id, "sleep 1000 & sleep 1001")
        await operator.until_state(command, "running")
        await until(lambda: sleepers(command), "both sleepers")
        await operator.cancel(command)
        row = await operator.until_state(command, *FINAL)
        assert await sleepers(command) == []
        assert row["state"] == "cancelled"
        assert row["cancel_step"]["step"] in ("interrupt", "sigterm")


async def test_a_command_for_an_offline_agent_waits_and_runs_when_it_returns(api, operator, tmp_path):
    """A command for an offline agent stays queued without a job, and runs when the agent returns."""
    async with agent_running(api, tmp_path) as agent:
        agent_id = agent.id
    await until(lambda: _status(api, operator, agent_id, "offline"), "offline")
    command = await operator.send(agent_id, "echo back")
    row = await operator.read(command)
    assert (row["state"], row["job_id"]) == ("queued", None)
    async with agent_running(api, tmp_path):
        assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"


async def _status(api, operator, agent_id: str, status: str) -> bool:
    row = (await api.http.get(f"/v1/agents/{agent_id}", headers=operator.headers)).json()
    return row["status"] == status


async def test_an_agent_that_is_killed_reports_its_command_lost(api, operator, tmp_path):
    """After `kill -9` and a restart of the agent its command is lost once, and none of its processes is alive."""
    async with agent_running(api, tmp_path) as agent:
        command = await operator.send(agent.id, "sleep 1000")
        await operator.until_state(command, "running")
        await until(lambda: sleepers(command), "the sleeper")
        agent.process.kill()
        await agent.process.wait()
        async with agent_running(api, tmp_path):
            assert (await operator.until_state(command, *FINAL))["state"] == "lost"
            assert await sleepers(command) == []


async def test_an_agent_that_is_killed_loses_no_byte_that_it_read(api, operator, tmp_path):
    """After `kill -9` of the agent during output, the viewer, the archive and the program have the same bytes of one
    stream."""
    marks = BEGIN % 7, b"lost \xc2\xb7 the agent was restarted"
    async with agent_running(api, tmp_path) as agent, api.terminal_socket(agent.id) as viewer:
        attached = await attach(viewer, operator.headers["Authorization"].removeprefix("Bearer "))
        started = json.loads(await viewer.recv()) if attached["stream_id"] is None else attached
        command = await operator.send(agent.id, f"{sys.executable} {WRITER} 7 {tmp_path}/stop {tmp_path}/count")
        seen = bytearray()

        async def until_seen(wanted: bytes, more: int = 0) -> None:
            async with asyncio.timeout(60):
                while wanted not in seen or len(seen) < seen.index(wanted) + more:
                    frame = await viewer.recv()
                    if isinstance(frame, bytes):
                        seen.extend(frame)
                    else:
                        assert json.loads(frame)["type"] in ("ping", "resized"), frame

        await until_seen(marks[0], 100_000)
        agent.process.kill()
        await agent.process.wait()
        async with agent_running(api, tmp_path):
            row = await operator.until_state(command, *FINAL)
            assert (row["state"], row["stream_id"]) == ("lost", started["stream_id"])
            await until_seen(marks[1])
            written = (
                bytes(seen).split(marks[0], 1)[1].rsplit(b"\x18\x1b7\x1b[?1049l", 1)[0]
            )  # what follows makes the terminal sane
            assert len(written) > 90_000
            assert written == expected(7, len(written))
            archived = await until_archived(api.database_url, started["stream_id"], len(seen))
            assert archived.startswith(seen)


async def test_random_bytes_survive_ten_cut_links(settings, tmp_path):
    """20 MB from a program in a pseudo-terminal reach the viewer unchanged while the agent's link is cut ten times."""
    data = random.Random(7).randbytes(20_000_000)
    (tmp_path / "data").write_bytes(data)
    # The ring holds all bytes, because this test is about the agent's link and not about a slow viewer.
    async with running(replace(settings, ring_bytes=32_000_000)) as api, CuttableLink(api.url) as link:
        operator = Operator(api, await api.operator())
        async with (
            agent_running(api, tmp_path, server=link.url) as agent,
            api.terminal_socket(agent.id, max_size=None) as viewer,
        ):
            await attach(viewer, operator.headers["Authorization"].removeprefix("Bearer "))
            # Raw mode, so that the terminal changes no byte.
            command = await operator.send(agent.id, "stty raw -echo; printf 'BEG''IN'; cat data; stty sane")
            received = bytearray((await read_until(viewer, b"BEGIN")).split(b"BEGIN", 1)[1])
            cuts = 0
            async with asyncio.timeout(150):
                while len(received) < len(data):
                    frame = await viewer.recv()
                    if isinstance(frame, str):
                        assert json.loads(frame)["type"] == "ping", frame
                        await viewer.send('{"type": "pong"}')
                        continue
                    received += frame
                    if cuts < 10 and len(received) > (cuts + 1) * len(data) // 11:
                        cuts += 1
                        link.cut()
            assert cuts == 10
            assert hashlib.sha256(received[: len(data)]).digest() == hashlib.sha256(data).digest()
            assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"
