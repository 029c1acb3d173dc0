"""The agents that a host runs, each as a process of its own, and the record of them on disk.

An agent that still runs when the host starts again, after a crash of the host, is found by its process, not started
twice. Its folder's lock keeps a second one from running in any case.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import msgspec
import psutil

from onsembl.agent.errors import AgentError
from onsembl.agent.link.durable import replace_file
from onsembl.agent.process.reaper import Reaper
from onsembl.protocol.hosting import RequestedStart, agent_kind, arguments_of

logger = logging.getLogger(__name__)

FILE_NAME = "hosted.json"
STOP_SECONDS = 30.0
"""How long an agent may take to end after SIGTERM: it stops its command and sends its last bytes."""
LOOK_SECONDS = 1.0
"""The interval at which the host looks whether agents run that an earlier run of it has started."""
NOT_PASSED = ("ONSEMBL_ENROLMENT_TOKEN",)
"""Variables of the environment that agents do not get."""


class Hosted(msgspec.Struct, kw_only=True):
    """One agent. `started_at` is when its process began, by the system's clock: a pid alone may be another's by now.
    `ended` says how it has ended; the server does not know it yet."""

    start: RequestedStart
    pid: int | None = None
    started_at: float = 0.0
    ended: str | None = None


class HostedAgents:
    """The agents of one host. `on_ended` gets each that has ended; it is in `ended` until `forget`."""

    def __init__(self, folder: Path, state_dir: Path, reaper: Reaper, on_ended: Callable[[Hosted], None]) -> None:
        """`folder` has the record, `state_dir` the folders of all agents. Raises AgentError."""
        self._path = folder / FILE_NAME
        self._state_dir = state_dir
        self._reaper = reaper
        self._on_ended = on_ended
        self._watches: dict[UUID, asyncio.Task[None]] = {}
        self._stopping = False
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=list[Hosted])
        except FileNotFoundError:
            kept = []
        except (OSError, msgspec.MsgspecError) as error:
            raise AgentError(f"{self._path} cannot be read: {error}.") from error
        self._agents = {one.start.id: one for one in kept}
        for one in kept:
            if (process := _process(one)) is not None:
                self._watches[one.start.id] = asyncio.create_task(self._watch_found(one, process))

    @property
    def running(self) -> int:
        """How many agents run."""
        return len(self._watches)

    @property
    def starts(self) -> list[RequestedStart]:
        """The requests of the agents that run."""
        return [self._agents[id].start for id in self._watches]

    @property
    def ended(self) -> list[Hosted]:
        """The agents that have ended, and whose ends are not forgotten."""
        return [one for one in self._agents.values() if one.ended is not None]

    @property
    def idle(self) -> list[Hosted]:
        """The agents that are to run and do not: the host has started again, or was interrupted."""
        return [one for id, one in self._agents.items() if one.ended is None and id not in self._watches]

    def knows(self, start_id: UUID) -> bool:
        """Whether this request's agent runs, or has ended."""
        one = self._agents.get(start_id)
        return one is not None and (one.ended is not None or start_id in self._watches)

    def add(self, start: RequestedStart) -> None:
        """Record an agent that is about to be enrolled. Raises OSError."""
        self._agents[start.id] = Hosted(start=start)
        self._write()

    def forget(self, start_id: UUID) -> None:
        """Drop an agent. Raises OSError."""
        if self._agents.pop(start_id, None) is not None:
            self._write()

    def run(self, start: RequestedStart, folder: int, options: Sequence[str]) -> None:
        """Start the agent's program in the folder of this descriptor. Raises OSError."""
        arguments = arguments_of(start.kind)
        here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fchdir(folder)  # not by its path, which may lead elsewhere by now
            child = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "onsembl.cli.main", "agent", "run", "--name", start.name),
                    *("--kind", agent_kind(start.kind), "--state-dir", str(self._state_dir), *options),
                    *(("--", *arguments) if arguments else ()),
                ],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is for the host, which stops its agents in order
                env={name: value for name, value in os.environ.items() if name not in NOT_PASSED},
            )
        finally:
            os.fchdir(here)
            os.close(here)
        exited = self._reaper.watch(child)
        one = self._agents[start.id]
        one.pid, one.started_at = child.pid, psutil.Process(child.pid).create_time()
        self._watches[start.id] = asyncio.create_task(self._watch_child(one, exited))
        self._write()

    async def stop(self) -> None:
        """Stop all agents, in order: they are started again with the host."""
        self._stopping = True
        watches = list(self._watches.values())
        self._signal(signal.SIGTERM)
        if watches:
            await asyncio.wait(watches, timeout=STOP_SECONDS)
        self._signal(signal.SIGKILL)
        await asyncio.gather(*watches)

    def _signal(self, number: signal.Signals) -> None:
        for start_id in self._watches:
            if (process := _process(self._agents[start_id])) is not None:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    async def _watch_child(self, one: Hosted, exited: asyncio.Future[int]) -> None:
        status = await exited
        self._over(one, f"It exited with code {status}." if status >= 0 else f"It was ended by signal {-status}.")

    async def _watch_found(self, one: Hosted, process: psutil.Process) -> None:
        while _lives(process):  # noqa: ASYNC110 — it is no child of this process
            await asyncio.sleep(LOOK_SECONDS)
        self._over(one, "It has ended.")

    def _over(self, one: Hosted, how: str) -> None:
        del self._watches[one.start.id]
        if self._stopping:
            return
        one.ended, one.pid = how, None
        try:
            self._write()
        except OSError:
            logger.exception("The record of agents cannot be written", extra={"action": "record_failed"})
        self._on_ended(one)

    def _write(self) -> None:
        replace_file(self._path, [msgspec.json.encode(list(self._agents.values()))])


def _lives(process: psutil.Process) -> bool:
    """Whether the process runs. One that has ended may wait for its parent for a while."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _process(one: Hosted) -> psutil.Process | None:
    """The agent's process, if it runs."""
    if one.pid is None:
        return None
    try:
        process = psutil.Process(one.pid)
        return process if abs(process.create_time() - one.started_at) < 1.0 and _lives(process) else None
    except psutil.NoSuchProcess:
        return None
