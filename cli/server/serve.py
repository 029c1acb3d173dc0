"""An application under uvicorn, until a signal."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import uvicorn
from starlette.applications import Starlette

from onsembl.api.serving import uvicorn_config
from onsembl.cli.errors import StartError

FULL_COLLECTION_SECONDS = 600.0


def serve(
    app: Starlette,
    listener: socket.socket,
    started: Callable[[], Awaitable[None]],
    stopping: Callable[[], Awaitable[None]],
) -> None:
    """Serve on `listener`; `started` runs once requests are answered, `stopping` before they no longer are."""
    _allow_many_sockets()
    _collect_garbage_seldom()
    config = uvicorn_config(app)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_run(uvicorn.Server(config), listener, started, stopping))


def _collect_garbage_seldom() -> None:
    """A look at all objects stops the process: for 1.3 s with 6,000 connections. Python takes one whenever a quarter of
    them is new, so again and again while a fleet connects. Only young objects are looked at here, and there are few;
    all of them every ten minutes, for the sake of connections that are over."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 1_000_000)


async def _collect_garbage() -> None:
    while True:
        await asyncio.sleep(FULL_COLLECTION_SECONDS)
        gc.collect()


def _allow_many_sockets() -> None:
    """As many as the system lets this process have: the soft limit is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # macOS refuses "unlimited"
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(
    server: uvicorn.Server,
    listener: socket.socket,
    started: Callable[[], Awaitable[None]],
    stopping: Callable[[], Awaitable[None]],
) -> None:
    stop = asyncio.Event()
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started:
        if serving.done():
            serving.result()
            raise StartError("The server did not start; the log says why.")
        await asyncio.sleep(0.01)
    # In the place of uvicorn's own, which would end this process before the rest is stopped.
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await started()
    collecting = asyncio.create_task(_collect_garbage())
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    collecting.cancel()
    await stopping()
    server.should_exit = True
    await serving
