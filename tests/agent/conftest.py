"""Agents without a server, for what happens on their own machine."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TextIO
from uuid import uuid4

import pytest
from support.forked import PIPE, ForkedProcess, fork_runner

from onsembl.agent.link.outbox import Outbox
from onsembl.agent.process.process import ProcessContext
from onsembl.agent.process.reaper import Reaper
from onsembl.agent.terminal import AgentTerminal

TESTS = Path(__file__).parents[1]
QUICK = {"interrupt": 0.4, "sigterm": 0.4, "sigkill": 0.5}
PATIENT = {"interrupt": 60.0}
"""For programs that end at the interrupt; on a busy machine that takes a while."""


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests of agents in the event loop of agents, which handles the end of child processes itself.

    They must end the session's loop, and with it the browser: when they stop handling SIGCHLD, the kernel drops it, a
    uvloop that goes on would not notice it, and every test that waits for a process would hang.
    """
    return {"asyncio": asyncio.new_event_loop}


class Alone:
    """A running `support.runner_process`."""

    def __init__(self, folder: Path, process: ForkedProcess, orders: TextIO) -> None:
        self.process = process
        self._orders = orders
        self._terminal = folder / "terminal"
        self.reports: list[dict] = []

    @property
    def shown(self) -> bytes:
        """The terminal's bytes so far."""
        return self._terminal.read_bytes()

    def order(self, *order: object) -> None:
        """Call the runner as a message of the server would."""
        print(json.dumps(order), file=self._orders, flush=True)

    def shut_down(self) -> None:
        """Let the process stop its command and exit."""
        self._orders.close()

    def offer(self, text: str, **limits: float | str) -> str:
        """Offer a command with these limits, or as a turn of this `conversation`."""
        command_id = str(uuid4())
        self.order("offer", command_id, text, limits)
        return command_id

    async def report(self, kind: str) -> dict:
        """The next report of a kind; those between are in `reports`."""
        async with asyncio.timeout(60):
            while line := await self.process.stdout.readline():
                self.reports.append(json.loads(line))
                if self.reports[-1]["type"] == kind:
                    return self.reports[-1]
        raise AssertionError(f"it ended without {kind}: {self.reports}")

    def answer(self, asked: dict, decision: str, by: str = "anna", **fields: object) -> None:
        """Answer a request, as the server would."""
        answer = {name: asked[name] for name in ("request_id", "command_id", "digest")}
        self.order("answer", {**answer, "by": by, "decision": {"decision": decision, **fields}, "type": "answer"})

    async def run(self, text: str) -> dict:
        """Run a command; return its end."""
        self.offer(text)
        return await self.report("ended")

    async def until_shown(self, wanted: bytes) -> None:
        await until(lambda: self._terminal.exists() and wanted in self.shown, wanted)

    def steps(self) -> list[str]:
        return [report["step"] for report in self.reports if report["type"] == "cancel_step"]


@asynccontextmanager
async def alone(
    folder: Path, kind: str = "shell", adopt: bool | None = None, times: dict | None = None, **environment: str
) -> AsyncIterator[Alone]:
    adopt = sys.platform == "linux" if adopt is None else adopt
    given, orders = os.pipe()
    with os.fdopen(given) as stdin:
        process = await fork_runner(
            *(str(folder), kind, "adopt" if adopt else "search", json.dumps(QUICK if times is None else times)),
            env={**_inherited(), **environment},
            stdin=stdin,
            stdout=PIPE,
        )
    agent = Alone(folder, process, os.fdopen(orders, "w"))
    try:
        yield agent
    finally:
        agent.shut_down()
        async with asyncio.timeout(60):
            await process.communicate()
    assert process.returncode in (0, -9)


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("LC_ALL", "LANG")}


async def until(probe: Callable[[], object], what: object) -> None:
    """Poll until the probe is true."""
    async with asyncio.timeout(60):
        while not probe():
            await asyncio.sleep(0.01)
    assert probe(), what


def sleeping(seconds: str) -> list[int]:
    """The pids of `sleep` processes with exactly this number of seconds, which only one test uses."""
    wanted = f"sleep\0{seconds}\0".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):  # The process has ended.
                if (folder / "cmdline").read_bytes() == wanted:  # A zombie's is empty.
                    found.append(int(folder.name))
    return found


@pytest.fixture
def nap() -> str:
    """A number of seconds that no other test sleeps for."""
    return f"1000.{uuid4().int % 10**12}"


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "spool", uuid4())
    yield outbox
    outbox.close()


@pytest.fixture
def terminal(outbox: Outbox) -> AgentTerminal:
    return AgentTerminal(80, 24, outbox)


@pytest.fixture
async def context(tmp_path: Path, terminal: AgentTerminal) -> AsyncIterator[ProcessContext]:
    """A folder and a terminal; orphans of the test's own process are not adopted."""
    reaper = Reaper(adopt=False)
    yield ProcessContext(tmp_path, terminal, reaper)
    reaper.close()


class Shown:
    """The terminal's output, acknowledged as it comes."""

    def __init__(self, terminal: AgentTerminal) -> None:
        self.data = bytearray()
        self._terminal = terminal
        self._more = asyncio.Event()
        terminal.on_output = self._take

    def _take(self) -> None:
        while (frame := self._terminal.outbox.next_frame(65536)) is not None:
            self.data += frame[1]
        self._terminal.acknowledged(self._terminal.outbox.sent)
        self._more.set()

    async def until(self, wanted: bytes) -> None:
        async with asyncio.timeout(30):
            while wanted not in self.data:
                self._more.clear()
                await self._more.wait()


@pytest.fixture
def shown(context) -> Shown:
    return Shown(context.terminal)
