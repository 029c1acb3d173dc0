"""Run the peers' programs for the duration of a block."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path


def free_port() -> int:
    """A free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@asynccontextmanager
async def node(path: Path, *arguments: str) -> AsyncGenerator[tuple[int, int]]:
    """Run a Node program that prints when it listens; its port and process id."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "node", str(path), str(port), *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            said = await process.stdout.readline()
        assert b"listening" in said, f"{path} did not start"
        yield port, process.pid
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def redis() -> AsyncGenerator[int]:
    """Run a Redis that writes each change to disk before it answers, as Postgres does; its port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="onsembl-redis-") as folder:
        settings = ("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir", folder)
        process = await asyncio.create_subprocess_exec(
            "redis-server", "--port", str(port), "--bind", "127.0.0.1", *settings, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(30):
                while True:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                        break
                    except ConnectionRefusedError:
                        await asyncio.sleep(0.05)
            writer.close()
            await writer.wait_closed()
            yield port
        finally:
            process.terminate()
            await process.wait()
