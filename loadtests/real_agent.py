"""A real `onsembl agent`, in a process of its own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from center import ONSEMBL, Center

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.enrol import enrol
from onsembl.protocol.states import AgentKind


@asynccontextmanager
async def real_agent(server: Center, folder: Path, name: str = "real") -> AsyncGenerator[str]:
    """Run an agent in this folder; its id."""
    token = (await server.post("/v1/enrolment-tokens", {"name_pattern": "*"}))["token"]
    credentials = await enrol(server.url, token, name, AgentKind.SHELL)
    store.save(folder / "agents" / name, credentials)
    where = ("--state-dir", str(folder / "agents"), "--cwd", str(folder))
    process = await asyncio.create_subprocess_exec(*ONSEMBL, "agent", "run", "--name", name, *where)
    try:
        yield credentials.agent_id
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
