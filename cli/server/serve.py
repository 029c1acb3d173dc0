"""Run an application under uvicorn until a signal."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import uvicorn
from starlette.applications import Starlette

from onsembl.api.serving import uvicorn_config
from onsembl.cli.errors import CliError

FULL_COLLECTION_SECONDS = 600.0

Draining = Callable[[asyncio.Event], Awaitable[None]]
"""Hands the work of a server over before it stops; hurries when the event is set."""


class Failure:
    """The reason why the process has to end, once there is one."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.reported = asyncio.Event()

    def report(self, error: Exception) -> None:
        """End the process because of this error; the first one counts."""
        self.error = self.error or error
        self.reported.set()


async def _drain_nothing(_hurry: asyncio.Event) -> None:
    return


def serve(
    app: Starlette,
    listeners: Sequence[socket.socket],
    started: Callable[[], Awaitable[None]],
    stopping: Callable[[], Awaitable[None]],
    failure: Failure | None = None,
    draining: Draining = _drain_nothing,
) -> None:
    """Serve on `listeners`. `started` runs when requests are answered.

    On a signal `draining` runs while requests are still served, and then `stopping` before the server stops. A second
    signal sets the event that `draining` gets: it should hurry.

    Raises CliError when the server does not start, and after the stop that a `failure` has caused.
    """
    _allow_many_sockets()
    _limit_garbage_collection()
    config = uvicorn_config(app)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_run(uvicorn.Server(config), listeners, started, stopping, failure or Failure(), draining))


def _limit_garbage_collection() -> None:
    """Let Python collect young objects only; `_collect_garbage` collects all of them every ten minutes.

    A full collection stops the process: for 1.3 s with 6,000 connections. By default Python runs one whenever a quarter
    of all objects is new, so repeatedly while a fleet connects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 1_000_000)


async def _collect_garbage() -> None:
    while True:
        await asyncio.sleep(FULL_COLLECTION_SECONDS)
        gc.collect()


def _allow_many_sockets() -> None:
    """Raise the soft limit of open files, often 1,024, to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # macOS refuses "unlimited"
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(
    server: uvicorn.Server,
    listeners: Sequence[socket.socket],
    started: Callable[[], Awaitable[None]],
    stopping: Callable[[], Awaitable[None]],
    failure: Failure,
    draining: Draining,
) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()

    def stop_or_hurry() -> None:
        (hurry if stop.is_set() else stop).set()

    serving = asyncio.create_task(server.serve(list(listeners)))
    while not server.started:
        if serving.done():
            serving.result()
            raise CliError("The server did not start. See the log.")
        await asyncio.sleep(0.01)
    # These replace uvicorn's handlers, which would end this process before the rest is stopped.
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop_or_hurry)
    await started()
    collecting = asyncio.create_task(_collect_garbage())
    waiting = [asyncio.create_task(event.wait()) for event in (stop, failure.reported)]
    await asyncio.wait({serving, *waiting}, return_when=asyncio.FIRST_COMPLETED)
    for task in (*waiting, collecting):
        task.cancel()
    if stop.is_set():
        await draining(hurry)
    await stopping()
    server.should_exit = True
    await serving
    if failure.error is not None:
        raise CliError(f"The control center has stopped: {failure.error}") from failure.error
