"""`onsembl keys` beside a running control center, and no secret in the process list."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
from support.command_line import run_in_process
from support.control_center import SECONDS, ControlCenter, clean_environment
from support.no_secrets import leaks


def onsembl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_in_process(*arguments, "--data-dir", str(folder), environment=clean_environment())


def words_of_its_processes(center: ControlCenter) -> str:
    words: list[str] = []
    for process in psutil.Process(center.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            words += process.cmdline()
    return " ".join(words)


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
        deadline = time.monotonic() + SECONDS
        while "agent run" not in (words := words_of_its_processes(center)):  # the demo agent is to be among them
            assert time.monotonic() < deadline, words
            time.sleep(0.05)
        assert leaks(words, set()) == []
        assert center.get("/readyz").status_code == 200
