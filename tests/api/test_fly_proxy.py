"""The proxy that stands in for Fly's: which machine gets a request, and how machines start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from support.agents import until
from support.connections import closing
from support.fly_proxy import FlyProxy, HealthCheck, stop_machine


@asynccontextmanager
async def machine(name: str, broken: set[str]) -> AsyncGenerator[str]:
    """Answers each request with its name; its health check fails while it is among the `broken`."""

    @closing
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        status = "503 No" if name in broken and b"/readyz" in head else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(name)}\r\nconnection: close\r\n\r\n{name}".encode())

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def asked(proxy: FlyProxy, count: int = 6, **headers: str) -> set[str]:
    """The machines that answer so many requests."""
    async with httpx.AsyncClient(base_url=proxy.url, verify=False) as http:
        return {(await http.get("/", headers=headers)).text for _ in range(count)}


async def test_requests_go_round_the_machines_that_work():
    """A machine whose check fails gets no request until it passes; one that accepts no connection is passed over."""
    broken: set[str] = set()
    check = HealthCheck("/readyz", interval=0.01, timeout=5.0)
    async with machine("a", broken) as a, machine("b", broken) as b:
        machines = {"a": a, "b": b, "c": "http://127.0.0.1:9"}
        async with FlyProxy(machines) as unchecked:
            assert await asked(unchecked) == {"a", "b"}
            assert await asked(unchecked, **{"fly-force-instance-id": "c"}) == {""}
        async with FlyProxy(machines, check=check) as proxy:
            broken.add("b")

            async def only(*names: str) -> bool:
                return await asked(proxy) == set(names)

            await until(lambda: only("a"), "the broken one is left out")
            broken.clear()
            await until(lambda: only("a", "b"), "it is back")


async def test_a_request_starts_a_stopped_machine():
    """The first request for a stopped machine starts it, once, also when several come."""
    started: list[str] = []
    async with machine("a", set()) as a:

        async def start(name: str) -> str:
            started.append(name)
            return a

        async with FlyProxy({"a": ""}, start=start) as proxy:
            assert await asyncio.gather(asked(proxy, 1), asked(proxy, 1)) == [{"a"}, {"a"}]
        assert started == ["a"]


async def test_a_machine_that_does_not_stop_is_killed():
    """A process that ignores SIGTERM is killed after `kill_timeout`; another one ends by itself."""
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    for script, timeout, itself in ((stubborn, 0.05, False), ("print(flush=True); input()", 60.0, True)):
        process = await asyncio.create_subprocess_exec(
            "python3", "-c", script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        assert await stop_machine(process, timeout) is itself
