"""`onsembl up` as a person starts it: a process of its own, on a data folder of its own."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
from support.no_secrets import leaks

READY = re.compile(r"ready at (\S+)")
SECONDS = 90.0
COMMAND = (sys.executable, "-m", "onsembl.cli.main")


def clean_environment(**added: str) -> dict[str, str]:
    """Ours, without what would lead the program to a database or a project of the person who runs the tests."""
    foreign = ("DATABASE_URL", "SUPABASE_", "ONSEMBL_")
    return {**{name: value for name, value in os.environ.items() if not name.startswith(foreign)}, **added}


class ControlCenter:
    """One start of it; what it says is kept in `said`."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        port: int = 0,
        command: Sequence[str] = COMMAND,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.said = ""
        self.address = ""
        self.process = subprocess.Popen(
            [*command, "up", "--port", str(port), "--data-dir", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment or clean_environment()) | {"PYTHONUNBUFFERED": "1"},
            cwd=cwd,
        )

    def __enter__(self) -> ControlCenter:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ready(self) -> ControlCenter:
        """Wait until it says that it is."""
        self._read(READY)
        self.address = READY.search(self.said)[1]
        return self

    def get(self, path: str, **headers: str) -> httpx.Response:
        """What it answers."""
        return httpx.get(self.address + path, headers=headers, timeout=SECONDS)

    def says(self, text: str) -> None:
        """Wait until it has said this."""
        self._read(re.compile(re.escape(text)))

    def ended(self) -> int:
        """Wait until it has ended by itself; its exit code."""
        self._read(None)
        return self.process.wait(SECONDS)

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """End it, and read what it says until then; its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(how)
            if how != signal.SIGKILL:
                self._read(None)
            self.process.wait(SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()
        assert leaks(self.said, set()) == [], "what it says shows secrets"
        return self.process.returncode

    def _read(self, until: re.Pattern[str] | None) -> None:
        """Read until a pattern has come, or the end."""
        stream = self.process.stdout
        assert stream is not None
        deadline = time.monotonic() + SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while until is None or not until.search(self.said):
                assert selector.select(deadline - time.monotonic()), f"nothing more was said after:\n{self.said}"
                data = os.read(stream.fileno(), 65536)
                if not data:
                    assert until is None, f"it ended before it was ready:\n{self.said}"
                    return
                self.said += data.decode(errors="replace")
