"""`onsembl keys` beside a control center that runs, and what the process list shows of secrets."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
import psutil
from support.control_center import COMMAND, ControlCenter, clean_environment
from support.no_secrets import leaks


def onsembl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments, "--data-dir", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
    )


def keys(folder: Path) -> list[dict]:
    return json.loads(onsembl(folder, "keys", "list", "--json").stdout)


def test_keys_are_rotated_while_it_runs(folder: Path):
    """The new one signs, the old one verifies until its tokens end; --revoke leaves one. Each is logged with who did
    it. The demo agent stays connected, and nothing of it is in the process list."""
    with ControlCenter(folder, "--demo") as center:
        center.ready()
        (first,) = keys(folder)
        rotated = onsembl(folder, "keys", "rotate")
        assert rotated.returncode == 0, rotated.stderr
        second, old = keys(folder)
        assert second["kid"] in rotated.stdout
        assert old["kid"] == first["kid"] and old["retired_at"] is not None and second["retired_at"] is None
        assert onsembl(folder, "keys", "rotate", "--revoke").returncode == 0
        (third,) = keys(folder)
        assert third["kid"] not in (first["kid"], second["kid"])
        assert onsembl(folder, "keys", "rotate", "--operators", "--revoke").returncode == 0
        again = onsembl(folder, "keys", "rotate", "--operators")
        assert again.returncode == 1 and "younger" in again.stderr
        processes = psutil.Process(center.process.pid).children(recursive=True)
        words = " ".join(word for process in processes for word in process.cmdline())
        assert "agent run" in words, "the demo agent is among them"
        assert leaks(words, set()) == []
        assert httpx.get(f"{center.address}/readyz").status_code == 200
