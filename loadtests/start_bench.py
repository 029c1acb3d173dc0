"""Measure how long `onsembl up` takes to be ready on an existing data folder, and how long a worker takes to its first
job; see bench.py. The targets are 3 s and 1.5 s."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from pathlib import Path

from center import ONSEMBL, center, clean_environment, read_until_ready
from clients import LoadAgent


async def again() -> dict[str, float]:
    """Seconds from the process's start until it prints that it is ready, on a folder that an earlier start created."""
    with tempfile.TemporaryDirectory(prefix="onsembl-start-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # noqa: ASYNC240 — once, before anything runs
        await _start(folder)
        return {"s": await _start(folder)}


async def first_job() -> dict[str, float]:
    """Seconds from the start of a worker's process until it has taken a job that waits for it."""
    async with center(no_worker=True) as server:
        credentials = await server.enrol("busy")
        agent = LoadAgent(busy=True)
        await agent.connect(server.url, credentials.access_token)
        await server.post(f"/v1/agents/{credentials.agent_id}/commands", {"text": "one"})
        began = time.perf_counter()
        worker = await asyncio.create_subprocess_exec(
            *(*ONSEMBL, "worker", "--until-idle", "--data-dir", str(server.folder)),
            env=clean_environment(),
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(60):
                while not (await server.get("/v1/jobs?state=running"))["jobs"]:
                    pass
            return {"s": time.perf_counter() - began}
        finally:
            worker.send_signal(signal.SIGTERM)
            await worker.wait()
            agent.leave()


async def _start(folder: str) -> float:
    began = time.perf_counter()
    server = await asyncio.create_subprocess_exec(
        *(*ONSEMBL, "up", "--port", "0", "--data-dir", f"{folder}/data"),
        stdout=asyncio.subprocess.PIPE,
        env=clean_environment(),
    )
    try:
        await read_until_ready(server)
        return time.perf_counter() - began
    finally:
        if server.returncode is None:
            server.send_signal(signal.SIGTERM)
        await server.wait()
