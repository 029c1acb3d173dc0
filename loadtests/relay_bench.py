"""Measure the delay of terminal bytes to viewers, and the deliveries a second; see bench.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from center import center
from clients import STAMP, LoadAgent, LoadViewer, ages
from peer_process import node
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

OUTSTANDING = 2000
"""The number of deliveries under way when the load is saturated."""


@dataclass(frozen=True, slots=True)
class Load:
    """The numbers of agents and of viewers for each; `rate` chunks a second of each agent, or as many as possible."""

    agents: int
    viewers: int
    size: int
    rate: float | None
    seconds: float = 5.0


PACED = "10 agents × 2 viewers, 50 chunks/s each, 256 B"
FASTER = "10 agents × 2 viewers, 100 chunks/s each, 256 B"
SATURATED = "10 agents × 4 viewers, 512 B, saturated"
MANY = "1,000 agents × 5 viewers, 10,000 deliveries/s"
MANY_FASTER = "1,000 agents × 5 viewers, 25,000 deliveries/s"
LOADS = {
    PACED: Load(10, 2, 256, 50),
    FASTER: Load(10, 2, 256, 100),
    SATURATED: Load(10, 4, 512, None),
    MANY: Load(1000, 5, 256, 2, 10.0),
    MANY_FASTER: Load(1000, 5, 256, 5, 10.0),
}


async def ours(load: Load) -> dict[str, float]:
    """Onsembl: authenticated, numbered, acknowledged and archived."""
    async with center() as server:
        latencies: list[int] = []
        agents: list[LoadAgent] = []
        viewers: list[LoadViewer] = []
        for number in range(load.agents):
            credentials = await server.enrol(f"load-{number}")
            agent = LoadAgent()
            await agent.connect(server.url, credentials.access_token)
            agents.append(agent)
            for _ in range(load.viewers):
                viewer = LoadViewer(server.url, credentials.agent_id, server.token, load.size, latencies)
                await viewer.connect()
                viewers.append(viewer)
        pad = b"x" * (load.size - STAMP.size)
        measures = await measure(load, lambda n: agents[n % len(agents)].send_stamped(pad), latencies, server.pid)
        async with asyncio.timeout(30):
            while any(agent.acknowledged < agent.offset for agent in agents):  # noqa: ASYNC110 — clients are callbacks
                await asyncio.sleep(0.05)
        measures["server MiB"] = server.rss() / 2**20
        for client in (*agents, *viewers):
            client.leave()
        return measures


class _PeerViewer(WSListener):
    def __init__(self, size: int, latencies: list[int]) -> None:
        self._size = size
        self._latencies = latencies

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        now = time.monotonic_ns()
        self._latencies += ages(frame.get_payload_as_bytes(), self._size, now)


@asynccontextmanager
async def _peer_agents(path: Path, load: Load, latencies: list[int]) -> AsyncGenerator[tuple[list[WSTransport], int]]:
    async with node(path) as (port, pid):
        base = f"ws://127.0.0.1:{port}"
        viewers = [
            (await ws_connect(lambda: _PeerViewer(load.size, latencies), f"{base}/view/a{number}"))[0]
            for number in range(load.agents)
            for _ in range(load.viewers)
        ]
        agents = [(await ws_connect(WSListener, f"{base}/agent/a{number}"))[0] for number in range(load.agents)]
        yield agents, pid
        for transport in (*agents, *viewers):
            transport.disconnect()


async def peer(path: Path, load: Load) -> dict[str, float]:
    """The peer: no authentication, no offsets, no archive."""
    latencies: list[int] = []
    pad = b"x" * (load.size - STAMP.size)
    async with _peer_agents(path, load, latencies) as (agents, pid):

        def send(number: int) -> None:
            agents[number % len(agents)].send(WSMsgType.BINARY, STAMP.pack(time.monotonic_ns()) + pad)

        await asyncio.sleep(0.3)
        return await measure(load, send, latencies, pid)


def worked_seconds(pid: int) -> float:
    """Processor seconds that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


async def measure(load: Load, send: Callable[[int], None], latencies: list[int], pid: int) -> dict[str, float]:
    """Send chunks by `send`, which gets their numbers, and measure the deliveries that come to `latencies`, and what
    they cost the process `pid`."""
    await asyncio.sleep(0.5)
    worked = worked_seconds(pid)
    sent, began = 0, time.monotonic()
    until = began + load.seconds
    if load.rate is None:
        while time.monotonic() < until:
            if sent * load.viewers - len(latencies) < OUTSTANDING:
                for _ in range(50):
                    send(sent)
                    sent += 1
            await asyncio.sleep(0)
    else:
        interval, due = 1 / (load.rate * load.agents), began
        while due < until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            while due <= time.monotonic() and due < until:
                send(sent)
                sent += 1
                due += interval
    took = time.monotonic() - began
    deadline = time.monotonic() + 30
    while len(latencies) < sent * load.viewers and time.monotonic() < deadline:  # noqa: ASYNC110 — clients are callbacks
        await asyncio.sleep(0.02)
    latencies.sort()
    count = len(latencies)
    each = {"server µs/delivery": (worked_seconds(pid) - worked) / count * 1e6}
    lost = {"lost": float(sent * load.viewers - count)}
    if load.rate is None:
        return {"deliveries/s": round(count / took), **each, **lost}
    return {**each, "p50 ms": latencies[count // 2] / 1e6, "p99 ms": latencies[int(count * 0.99)] / 1e6, **lost}
