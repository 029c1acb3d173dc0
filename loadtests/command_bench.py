"""Measure the time from the POST of a command to its agent, and the commands ended a second; see bench.py."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from center import center, session
from clients import LoadAgent
from peer_process import node, redis

AGENTS = 10
PACED = 200
PACE_SECONDS = 0.02
POSTERS = 16


class Arrivals:
    """The time at which each command, by its text, reached its agent."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[float]] = {}

    def expect(self, text: str) -> asyncio.Future[float]:
        """A future with the time of arrival."""
        self._waiting[text] = asyncio.get_running_loop().create_future()
        return self._waiting[text]

    def arrived(self, text: str) -> None:
        """The command has reached its agent."""
        waiter = self._waiting.pop(text, None)
        assert waiter is not None, f"{text} came twice"
        waiter.set_result(time.perf_counter())


async def ours(workers: int) -> dict[str, float]:
    """Onsembl: authorized, audited, durable, with the agent's acceptance and the command's end."""
    async with center(workers) as server:
        arrivals = Arrivals()
        agents: list[LoadAgent] = []
        ids: list[str] = []
        for number in range(AGENTS):
            credentials = await server.enrol(f"load-{number}")
            agent = LoadAgent(arrivals.arrived)
            await agent.connect(server.url, credentials.access_token)
            agents.append(agent)
            ids.append(credentials.agent_id)

        async def post(number: int) -> None:
            await server.post(f"/v1/agents/{ids[number % AGENTS]}/commands", {"text": str(number)})

        await _warm_up(arrivals, post)
        measures = await _measure(arrivals, post)
        for agent in agents:
            agent.leave()
        return measures


async def peer(path: Path) -> dict[str, float]:
    """The peer: no authentication, no audit."""
    async with redis() as redis_port, node(path, str(redis_port)) as (port, _), session() as http:
        base = f"http://127.0.0.1:{port}"
        arrivals = Arrivals()

        async def agent(name: str) -> None:
            async with http.ws_connect(f"{base}/agent/{name}") as socket:
                async for message in socket:
                    command = json.loads(message.data)
                    arrivals.arrived(command["text"])
                    await socket.send_str(json.dumps({"id": command["id"]}))

        tasks = [asyncio.create_task(agent(f"a{number}")) for number in range(AGENTS)]
        await asyncio.sleep(0.5)

        async def post(number: int) -> None:
            body = {"agent": f"a{number % AGENTS}", "text": str(number)}
            async with http.post(f"{base}/commands", json=body) as answer:
                await answer.read()

        await _warm_up(arrivals, post)
        measures = await _measure(arrivals, post)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return measures


Post = Callable[[int], Awaitable[None]]


async def send(arrivals: Arrivals, post: Post, number: int) -> float:
    """Send a command; return the seconds until it arrives."""
    arrival = arrivals.expect(str(number))
    began = time.perf_counter()
    await post(number)
    async with asyncio.timeout(60):
        return await arrival - began


async def _warm_up(arrivals: Arrivals, post: Post) -> None:
    """Open connections and prepare statements, which happens once and not for each command."""
    for number in range(-50, 0):
        await send(arrivals, post, number)


async def _measure(arrivals: Arrivals, post: Post) -> dict[str, float]:
    latencies: list[float] = []
    for number in range(PACED):
        latencies.append(await send(arrivals, post, number))
        await asyncio.sleep(PACE_SECONDS)
    latencies.sort()
    numbers = iter(range(PACED, PACED * 11))

    async def poster() -> None:
        for number in numbers:
            await send(arrivals, post, number)

    began = time.perf_counter()
    await asyncio.gather(*(poster() for _ in range(POSTERS)))
    rate = PACED * 10 / (time.perf_counter() - began)
    return {
        "p50 ms": latencies[PACED // 2] * 1e3,
        "p99 ms": latencies[int(PACED * 0.99)] * 1e3,
        "commands/s": rate,
    }
