"""The processes of `onsembl up --instances`: starts them, starts each again when it ends, and stops all."""

from __future__ import annotations

import asyncio
import logging
import pickle
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import uvloop

from onsembl.api.settings import Settings
from onsembl.cli.errors import CliError
from onsembl.cli.server.process_plan import READY, ProcessPlan
from onsembl.cli.server.serve import Failure
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.supervision import Failed, GaveUp, supervise

logger = logging.getLogger(__name__)

STOP_SECONDS = 25.0
"""How long a process may take to stop after its agents were moved before it is killed, in seconds."""
REALTIME = "realtime"
LOOPBACK = "127.0.0.1"


class InstanceProcess:
    """One process and its successors."""

    def __init__(self, plan: ProcessPlan) -> None:
        self.name = plan.settings.process
        self._plan = plan
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process, and wait until it answers requests. Raises Failed when it ends before."""
        # A session of its own: Ctrl-C at the terminal reaches the parent only, which stops all processes.
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "onsembl.cli.server.instance_process"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=self._plan.descriptors,
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(pickle.dumps(self._plan))
        with suppress(ConnectionError):  # it has ended
            await process.stdin.drain()
        if await process.stdout.readline() != READY:
            raise Failed(f"it has ended during its start, with exit code {await process.wait()}")
        logger.info("%s runs", self.name, extra={"action": "process_started", "part": self.name, "pid": process.pid})

    async def keep_running(self) -> None:
        """Start the process again whenever it ends, until cancelled. It runs already. Raises GaveUp."""

        async def run() -> None:
            if self._process is None:
                await self.start()
            assert self._process is not None
            code = await self._process.wait()
            self._process = None
            raise Failed(f"it has ended with exit code {code}")

        await supervise(self.name, run)

    def terminate(self) -> None:
        """Send SIGTERM, if the process runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    async def stop(self) -> None:
        """Stop the process, and wait for its end; kill it when it takes too long."""
        if self._process is None:
            return
        self.terminate()
        try:
            async with asyncio.timeout(self._plan.settings.drain_seconds + STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            logger.warning("%s does not stop: it is killed", self.name, extra={"action": "process_killed"})
            self._process.kill()
            await self._process.wait()


def plan_processes(
    settings: Settings, count: int, listener: socket.socket, private: Sequence[socket.socket], host: str
) -> list[ProcessPlan]:
    """The processes of a control center with `count` instances, which share `listener`.

    Each has one of the `private` sockets, at which the others reach it: by `host` also from other machines. The last
    one is that of the built-in Realtime, for which the settings may name another process. The first instance runs the
    worker, if there is one.
    """
    sockets = dict(zip((*(f"instance-{number}" for number in range(1, count + 1)), REALTIME), private, strict=True))
    if settings.hosted is not None or settings.realtime_url is not None:
        del sockets[REALTIME]
    urls = {name: f"http://{LOOPBACK}:{_port(own)}" for name, own in sockets.items()}
    plans: list[ProcessPlan] = []
    for name, own in sockets.items():
        changed = replace(
            settings,
            address=f"{host}:{_port(own)}",
            worker=settings.worker if name == "instance-1" else None,
            realtime_url=settings.realtime_url or urls.get(REALTIME),
            process=name,
            siblings={other: url for other, url in urls.items() if other != name},
        )
        descriptors = (own.fileno(),) if name == REALTIME else (listener.fileno(), own.fileno())
        plans.append(ProcessPlan(settings=changed, descriptors=descriptors, realtime=name == REALTIME))
    return plans


def _port(listener: socket.socket) -> int:
    return listener.getsockname()[1]


def serve_processes(
    plans: Sequence[ProcessPlan],
    started: Callable[[], Awaitable[None]],
    stopping: Callable[[], Awaitable[None]],
    failure: Failure,
) -> None:
    """Run the processes until a signal. `started` runs when all of them answer requests, `stopping` before they stop.

    Raises CliError when one does not start, and after the stop that a `failure` has caused.
    """
    uvloop.run(_run([InstanceProcess(plan) for plan in plans], started, stopping, failure))


async def _run(
    processes: Sequence[InstanceProcess],
    started: Callable[[], Awaitable[None]],
    stopping: Callable[[], Awaitable[None]],
    failure: Failure,
) -> None:
    stop = asyncio.Event()

    def signalled() -> None:
        if stop.is_set():  # a second signal shortens the stop, as it does for one process
            for process in processes:
                process.terminate()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled)
    keeping: list[asyncio.Task[None]] = []
    try:
        await _start(processes, stop)
        if not stop.is_set():
            keeping += [asyncio.create_task(_keep(process, failure)) for process in processes]
            await started()
        waiting = [asyncio.create_task(event.wait()) for event in (stop, failure.reported)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await cancel_until_done(waiting)
        await stopping()
    finally:
        await cancel_until_done(keeping)
        await asyncio.gather(*(process.stop() for process in processes))
    if failure.error is not None:
        raise CliError(f"The control center has stopped: {failure.error}") from failure.error


async def _start(processes: Sequence[InstanceProcess], stop: asyncio.Event) -> None:
    """Start all processes at the same time; return early when they are to stop. Raises CliError."""
    starting = asyncio.gather(*(process.start() for process in processes))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
    except Failed as error:
        raise CliError(f"A process of the control center did not start: {error}. See the log.") from error
    finally:
        await cancel_until_done([stopped])
        starting.cancel()
        with suppress(asyncio.CancelledError, Failed):
            await starting


async def _keep(process: InstanceProcess, failure: Failure) -> None:
    try:
        await process.keep_running()
    except GaveUp as error:
        failure.report(error)
