"""A proxy that does what Fly's does: it distributes requests, and repeats one at the machine that an answer names.

Each behaviour has its source:

- `fly-replay` before an upgrade and on requests up to 1 MB, `fly-replay-src`, `fly-replay-failed`,
  `fly-force-instance-id`: https://fly.io/docs/networking/dynamic-request-routing/
- `Fly-Client-IP`: https://fly.io/docs/networking/request-headers/
- requests go round the machines whose health checks pass, and a machine that accepts no connection is passed over:
  https://fly.io/docs/reference/load-balancing/ and https://fly.io/docs/reference/health-checks/
- a request starts a stopped machine when no other one runs, or when it is for that machine
  (`auto_start_machines`): https://fly.io/docs/launch/autostop-autostart/
- `kill_signal`, and SIGKILL after `kill_timeout`: https://fly.io/docs/reference/configuration/

One request for each connection; TLS, HTTP/2, the replay cache and the balance by load are left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

MAX_REPEATED_BODY = 1_000_000
REGION = "fra"


@dataclass(frozen=True)
class HealthCheck:
    """As in `[[http_service.checks]]` of fly.toml. Times are in seconds."""

    path: str
    interval: float
    timeout: float


async def stop_machine(process: Process, kill_timeout: float) -> bool:
    """Stop a machine's process as Fly does: `kill_signal`, then SIGKILL after `kill_timeout` seconds. Return whether it
    has ended by itself."""
    process.terminate()
    try:
        async with asyncio.timeout(kill_timeout):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
    return True


class Process(Protocol):
    """The part of `asyncio.subprocess.Process` that stops it."""

    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    async def wait(self) -> int: ...


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
    check: HealthCheck | None = None
    """The health check; without one, each machine that has a URL is healthy."""
    start: Callable[[str], Awaitable[str]] | None = None
    """Starts a stopped machine, and returns its URL; without it, stopped machines stay so (`auto_start_machines`)."""

    async def __aenter__(self) -> FlyProxy:
        self._round = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._failing: set[str] = set()
        self._starting = asyncio.Lock()
        if self.check is not None:
            self._tasks |= {asyncio.create_task(self._watch(machine, self.check)) for machine in self.machines}
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _in_turn(self) -> list[str]:
        """The machines to try: the healthy ones from the next in turn on, and a stopped one when none runs."""
        if self.first is not None:
            return [self.first]
        running = [machine for machine, url in self.machines.items() if url]
        healthy = [machine for machine in running if machine not in self._failing]
        self._round += 1
        if not healthy:
            return [machine for machine in self.machines if machine not in running][:1]
        at = self._round % len(healthy)
        return healthy[at:] + healthy[:at]

    async def _watch(self, machine: str, check: HealthCheck) -> None:
        """Check a machine again and again: it gets requests while its check passes."""
        while True:
            passes = False
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(check.timeout):
                    request = {"host": "health", "connection": "close"}
                    answer = await self._ask(machine, f"GET {check.path} HTTP/1.1", request, b"")
                    if answer is not None:
                        passes = answer[0].split()[1] == "200"
                        answer[3].close()
            if passes:
                self._failing.discard(machine)
            else:
                self._failing.add(machine)
            await asyncio.sleep(check.interval)

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
        forced = headers.pop("fly-force-instance-id", None)
        answer, machine = None, ""
        for machine in [forced] if forced is not None else self._in_turn():
            answer = await self._ask_awake(machine, request, headers, body)
            if answer is not None:
                break
        if answer is None:
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            return
        status, told, server_reader, server_writer = answer
        try:
            target = told.get("fly-replay", "").removeprefix("instance=")
            if target and len(body) <= MAX_REPEATED_BODY:
                server_writer.close()
                source = f"instance={machine};region={REGION};t=0;state="
                self.repeated.append((machine, target))
                answer = await self._ask_awake(target, request, {**headers, "fly-replay-src": source}, body)
                if answer is None:
                    self.failed += 1
                    answer = await self._ask(machine, request, {**headers, "fly-replay-failed": source}, body)
                    if answer is None:  # it has ended meanwhile
                        return
                status, told, server_reader, server_writer = answer
            writer.write(_head(status, told))
            await asyncio.gather(_pump(server_reader, writer), _pump(reader, server_writer))
        finally:
            server_writer.close()

    async def _ask_awake(
        self, machine: str, request: str, headers: dict[str, str], body: bytes
    ) -> tuple[str, dict[str, str], asyncio.StreamReader, asyncio.StreamWriter] | None:
        """The same as `_ask`, of a machine that is started if it is stopped."""
        if self.start is not None and machine in self.machines:
            async with self._starting:
                if not self.machines[machine]:
                    self.machines[machine] = await self.start(machine)
        return await self._ask(machine, request, headers, body)

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
        try:
            return *await _read_head(reader), reader, writer
        except BaseException:
            writer.close()
            raise


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
