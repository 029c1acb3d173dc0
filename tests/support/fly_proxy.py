"""A proxy that does what Fly's does for viewers: it repeats a request at the machine that an answer names.

Each behaviour is that of https://fly.io/docs/networking/dynamic-request-routing/ (`fly-replay`, its guard headers, the
1 MB limit of a repeated body, `fly-force-instance-id`) and https://fly.io/docs/networking/request-headers/
(`Fly-Client-IP`). One request for each connection; TLS, HTTP/2 and the replay cache are left out.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

MAX_REPEATED_BODY = 1_000_000
REGION = "fra"


@dataclass
class FlyProxy:
    """Requests go round the machines; `machines` has the URL of each by its id, and a stopped machine has none."""

    machines: dict[str, str]
    repeated: list[tuple[str, str]] = field(default_factory=list)
    """From which machine to which a request was repeated."""
    failed: int = 0
    """How many requests could not be repeated."""
    first: str | None = None
    """The machine that gets the next requests; without one they go round."""

    async def __aenter__(self) -> FlyProxy:
        self._round = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _next_machine(self) -> str:
        if self.first is not None:
            return self.first
        running = [machine for machine, url in self.machines.items() if url]
        self._round += 1
        return running[self._round % len(running)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._pass(reader, writer)
        finally:
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request, headers = await _read_head(reader)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        upgrades = headers.get("connection", "").lower() == "upgrade"
        if not upgrades:
            headers["connection"] = "close"
        headers["fly-client-ip"] = writer.get_extra_info("peername")[0]
        headers.pop("fly-replay-src", None)
        headers.pop("fly-replay-failed", None)
        machine = headers.pop("fly-force-instance-id", None) or self._next_machine()
        answer = await self._ask(machine, request, headers, body)
        if answer is None:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            return
        status, told, server_reader, server_writer = answer
        try:
            target = told.get("fly-replay", "").removeprefix("instance=")
            if target and len(body) <= MAX_REPEATED_BODY:
                server_writer.close()
                source = f"instance={machine};region={REGION};t=0;state="
                self.repeated.append((machine, target))
                answer = await self._ask(target, request, {**headers, "fly-replay-src": source}, body)
                if answer is None:
                    self.failed += 1
                    answer = await self._ask(machine, request, {**headers, "fly-replay-failed": source}, body)
                    assert answer is not None
                status, told, server_reader, server_writer = answer
            writer.write(_head(status, told))
            await asyncio.gather(_pump(server_reader, writer), _pump(reader, server_writer))
        finally:
            server_writer.close()

    async def _ask(
        self, machine: str, request: str, headers: dict[str, str], body: bytes
    ) -> tuple[str, dict[str, str], asyncio.StreamReader, asyncio.StreamWriter] | None:
        """The head of the machine's answer, and the connection to it; None when the machine does not run."""
        target = urlsplit(self.machines.get(machine, ""))
        if not target.hostname:
            return None
        try:
            reader, writer = await asyncio.open_connection(target.hostname, target.port)
        except ConnectionError:
            return None
        writer.write(_head(request, headers) + body)
        return *await _read_head(reader), reader, writer


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").removesuffix("\r\n\r\n")
    first, *lines = head.split("\r\n")
    return first, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _head(first: str, headers: dict[str, str]) -> bytes:
    return "\r\n".join([first, *(f"{name}: {value}" for name, value in headers.items()), "\r\n"]).encode("latin-1")


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            if writer.is_closing():
                return
            writer.write(data)
            await writer.drain()
    writer.close()
