"""The real coding CLIs, of the versions in `package-lock.json`, on a scripted model in the place of their vendor's."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from support.scripted_model import app
from support.server import Api, running

from onsembl.api.settings import Settings
from onsembl.cli.server.node import node_environment, npm_command
from onsembl.tasks.worker import WorkerSettings

HERE = Path(__file__).parent


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    settings = Settings(database_url=database_url, public_url="", worker=WorkerSettings(dead_after=2.0))
    async with running(settings) as api:
        yield api


@pytest.fixture(scope="session")
def clis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the programs of the CLIs."""
    folder = tmp_path_factory.mktemp("clis")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    npm = [*npm_command(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(npm, cwd=folder, env=node_environment(), check=True, capture_output=True)
    programs = folder / "bin"
    programs.mkdir()
    # The program of this platform; the package's own script that would link to it does not run.
    vendor = folder / "node_modules" / "@anthropic-ai"
    (programs / "claude").symlink_to(next(path for path in vendor.glob("claude-code-*/claude") if path.is_file()))
    return programs


@pytest.fixture
async def model() -> AsyncIterator[str]:
    """The URL of the scripted model."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await serving


@pytest.fixture
def claude_code(clis: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let agents that are started from now on find the real Claude Code, with a home of its own."""
    monkeypatch.setenv("PATH", f"{clis}:{os.environ['PATH']}")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    monkeypatch.setenv("ANTHROPIC_BASE_URL", model)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-" + "x" * 24)
    monkeypatch.setenv("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
