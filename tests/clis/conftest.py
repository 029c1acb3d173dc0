"""The real coding CLIs, installed as their lock file says, on a scripted model."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from api.conftest import api, settings
from support.agents import Operator
from support.scripted_model import model_running
from support.server import Api

from onsembl.cli.server.node import node_environment, npm_command

__all__ = ["api", "settings"]  # pytest finds them here


def install(folder: Path, *arguments: str) -> Path:
    """Install packages by npm, once; return Claude Code's program. Scripts of packages do not run: the program is in a
    package for this platform."""
    made = folder / "node_modules" / ".package-lock.json"
    with (folder / "package.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # each process of the tests comes here
        if not made.exists() or made.stat().st_mtime < (folder / "package-lock.json").stat().st_mtime:
            subprocess.run(
                [*npm_command(), *arguments, "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=folder,
                env=node_environment(),
                check=True,
                capture_output=True,
            )
    (program,) = (folder / "node_modules" / "@anthropic-ai").glob("claude-code-*/claude")
    return program


@pytest.fixture(scope="session")
def pinned() -> Path:
    """The Claude Code of the lock file."""
    return install(Path(__file__).parent, "ci")


@pytest.fixture
async def model() -> AsyncGenerator[str]:
    """The address of the scripted model."""
    async with model_running() as url:
        yield url


def use(program: Path, model: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let agents that are started from now on run this Claude Code on the model, in a home of their own."""
    (folder / "bin").mkdir()
    (folder / "bin" / "claude").symlink_to(program)
    (folder / "home").mkdir()
    environment = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "ANTHROPIC_BASE_URL": model,
        "ANTHROPIC_API_KEY": "fake",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "IS_SANDBOX": "1",  # root may use the mode `full`
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)


@pytest.fixture
def claude(pinned: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let agents find the Claude Code of the lock file."""
    use(pinned, model, tmp_path, monkeypatch)


@pytest.fixture
async def admin(api: Api) -> Operator:
    return Operator(api, await api.operator())
