"""A real `onsembl agent`, in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from center import ONSEMBL, Center

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.enrol import enrol
from onsembl.protocol.states import AgentKind


@asynccontextmanager
async def real_agent(
    server: Center, folder: Path, kind: AgentKind = AgentKind.SHELL, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[str]:
    """Run an agent in this folder, with additions to its environment; its id."""
    name = "real"
    token = (await server.post("/v1/enrolment-tokens", {"name_pattern": "*"}))["token"]
    credentials = await enrol(server.url, token, name, kind)
    store.save(folder / "agents" / name, credentials)
    where = ("--state-dir", str(folder / "agents"), "--cwd", str(folder))
    process = await asyncio.create_subprocess_exec(
        *ONSEMBL, "agent", "run", "--name", name, *where, env={**os.environ, **(environment or {})}
    )
    try:
        yield credentials.agent_id
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
