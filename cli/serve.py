"""An application under uvicorn, until a signal."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable

import uvicorn
from starlette.applications import Starlette

from onsembl.cli.errors import StartError

MAX_FRAME_BYTES = 5_000_000
"""What Realtime's clients may send; the sockets of ours allow 1 MiB."""


def serve(
    app: Starlette,
    listener: socket.socket,
    started: Callable[[], Awaitable[None]],
    stopping: Callable[[], Awaitable[None]],
) -> None:
    """Serve on `listener`; `started` runs once requests are answered, `stopping` before they no longer are."""
    config = uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=None,  # the protocol has heartbeats of its own
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,
        log_level="warning",
        lifespan="on",
        timeout_graceful_shutdown=5,
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_run(uvicorn.Server(config), listener, started, stopping))


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
