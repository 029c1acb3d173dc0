"""The server of the release before, from the history of the repository, beside the present one."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from support.agents import until
from support.control_center import clean_environment
from support.frozen import git, require_history

ROOT = Path(__file__).parents[2]
FIRST_MIGRATION = "sql/migrations/0059_last_ended_commands.sql"
"""The first migration that the release before does not have. Name the next one at each release."""
SERVE = """
import asyncio, socket, sys
import uvicorn
from onsembl.api.app import create_app
from onsembl.api.serving import uvicorn_config
from onsembl.api.settings import Settings
from onsembl.sql.migrate import migrate

database_url, public_url = sys.argv[2:]
asyncio.run(migrate(database_url, builtin_supabase=True))
app = create_app(Settings(database_url=database_url, public_url=public_url, address="previous:1"))
asyncio.run(uvicorn.Server(uvicorn_config(app)).serve([socket.socket(fileno=int(sys.argv[1]))]))
"""


def unpack(folder: Path) -> None:
    """Write the package of the release before into `folder`. Raises NoHistory."""
    require_history(ROOT)
    added = git(ROOT, "log", "--diff-filter=A", "--format=%H", "-1", "--", FIRST_MIGRATION).strip()
    package = folder / "onsembl"
    package.mkdir(parents=True)
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", f"{added}^"], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(package)], input=archive, check=True)
    assert not (package / FIRST_MIGRATION).exists()


@asynccontextmanager
async def previous_agent(folder: Path, *arguments: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """The `onsembl agent run` of the release before, with these arguments, until the block ends."""
    await asyncio.to_thread(unpack, folder)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "onsembl.cli.main", "agent", "run", *arguments),
        env=clean_environment(PYTHONPATH=str(folder)),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def previous_release(folder: Path, database_url: str, public_url: str) -> AsyncGenerator[str]:
    """The URL of a server of the release before. It has migrated the database as far as it knows."""
    await asyncio.to_thread(unpack, folder)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # Its modules come first: `onsembl` has no __init__.py, so both releases could be found.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SERVE, str(listener.fileno()), database_url, public_url),
            pass_fds=[listener.fileno()],
            env=clean_environment(PYTHONPATH=str(folder)),
        )
    try:
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:

            async def ready() -> bool:
                assert process.returncode is None, "the server of the release before has ended"
                try:
                    return (await http.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(ready, "the server of the release before")
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
