"""The real coding CLIs, installed as their lock file says, on a scripted model."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from api.conftest import api, settings
from clis.programs import CLAUDE, CODEX, GEMINI
from support.agents import Operator
from support.scripted_model import model_running
from support.server import Api

from onsembl.cli.server.node import node_environment, npm_command

__all__ = ["api", "settings"]  # pytest finds them here


def install(folder: Path, *arguments: str) -> Path:
    """Install packages by npm, once; return their folder. Scripts of packages do not run: each program is in a package
    for this platform."""
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
    return folder / "node_modules"


@pytest.fixture(scope="session")
def pinned() -> Path:
    """The packages of the lock file."""
    return install(Path(__file__).parent, "ci")


@pytest.fixture
async def model() -> AsyncGenerator[str]:
    """The address of the scripted model."""
    async with model_running() as url:
        yield url


@pytest.fixture
def claude(pinned: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let agents find the Claude Code of the lock file."""
    CLAUDE.use(pinned, model, tmp_path, monkeypatch)


@pytest.fixture
def codex(pinned: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let agents find the Codex of the lock file."""
    CODEX.use(pinned, model, tmp_path, monkeypatch)


@pytest.fixture
def gemini(pinned: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let agents find the Gemini CLI of the lock file."""
    GEMINI.use(pinned, model, tmp_path, monkeypatch)


@pytest.fixture
async def admin(api: Api) -> Operator:
    return Operator(api, await api.operator())
