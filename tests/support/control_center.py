"""Runs `onsembl up` in a process of its own with a data folder of its own."""

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
from support.forked import BlockingProcess
from support.no_secrets import leaks
from support.page import built_page

READY = re.compile(r"ready at (\S+)")
SECONDS = 90.0
COMMAND = (sys.executable, "-m", "onsembl.cli.main")


def clean_environment(**added: str) -> dict[str, str]:
    """The environment without the variables that name a database or a Supabase project, plus `added`."""
    excluded = ("DATABASE_URL", "SUPABASE_", "ONSEMBL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(excluded)}
    return {**kept, "ONSEMBL_KEYRING": "off", **added}


class ControlCenter:
    """One run of `onsembl up`; `output` holds its output.

    The process is forked from one that has imported all modules. With a `command`, such as COMMAND, it starts and exits
    as an operator's does. The page is built before: on a busy machine a build is silent for longer than a test waits.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        port: int = 0,
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.output = ""
        self.address = ""
        if command in (None, COMMAND):
            built_page()
        options = ("up", "--port", str(port), "--data-dir", str(folder), *arguments)
        environment = dict(environment or clean_environment())
        self.process = (
            BlockingProcess(*options, env=environment)
            if command is None
            else subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment | {"PYTHONUNBUFFERED": "1"},
                cwd=cwd,
            )
        )

    def __enter__(self) -> ControlCenter:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ready(self) -> ControlCenter:
        """Wait until the control center is ready."""
        self._read(READY)
        self.address = READY.search(self.output)[1]
        return self

    def get(self, path: str, **headers: str) -> httpx.Response:
        """GET a path of the control center."""
        return httpx.get(self.address + path, headers=headers, timeout=SECONDS)

    def wait_for(self, text: str) -> None:
        """Wait until the output has this text."""
        self._read(re.compile(re.escape(text)))

    def wait(self) -> int:
        """Wait for the process to exit, and return its exit code."""
        self._read(None)
        return self.process.wait(SECONDS)

    def stop(self, signal_number: signal.Signals = signal.SIGINT) -> int:
        """Stop the process, read its output to the end, and return its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal_number)
            if signal_number != signal.SIGKILL:
                self._read(None)
            self.process.wait(SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()
        assert leaks(self.output, set()) == [], "the output shows secrets"
        return self.process.returncode

    def _read(self, until: re.Pattern[str] | None) -> None:
        """Read the output until it has the pattern, or to its end."""
        stream = self.process.stdout
        assert stream is not None
        deadline = time.monotonic() + SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while until is None or not until.search(self.output):
                assert selector.select(deadline - time.monotonic()), f"no more output after:\n{self.output}"
                data = os.read(stream.fileno(), 65536)
                if not data:
                    assert until is None, f"the process ended too early:\n{self.output}"
                    return
                self.output += data.decode(errors="replace")
