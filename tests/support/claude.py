"""A program `claude` that plays recorded runs, in the place of the real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent
TRANSCRIPTS = SUPPORT.parent / "agent" / "transcripts"


def put_claude_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let agents that are started from now on find the program, which leaves its arguments in `called.json`."""
    (folder / "bin").mkdir()
    (folder / "bin" / "claude").symlink_to(SUPPORT / "fake_claude.py")
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("TRANSCRIPTS", str(TRANSCRIPTS))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(folder / "config"))
