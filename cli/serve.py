"""An application under uvicorn, until a signal."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import uvicorn
from starlette.applications import Starlette

from onsembl.api.serving import uvicorn_config
from onsembl.cli.errors import StartError


def serve(
    app: Starlette,
    listener: socket.socket,
    started: Callable[[], Awaitable[None]],
    stopping: Callable[[], Awaitable[None]],
) -> None:
    """Serve on `listener`; `started` runs once requests are answered, `stopping` before they no longer are."""
    _allow_many_sockets()
    config = uvicorn_config(app)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_run(uvicorn.Server(config), listener, started, stopping))


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
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await stopping()
    server.should_exit = True
    await serving
