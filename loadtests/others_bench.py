"""Measure the cost of one bad client for the others: a stuck viewer, or an agent that writes as fast as it can.

    python loadtests/others_bench.py [--seconds 10] [--json FILE]

Stuck: fifty viewers watch one agent that sends 100 chunks of 4 KiB a second; then one of them stops reading. Flooding:
ten viewers watch one agent that sends 100 chunks of 256 B a second; then a real agent, which is watched too, runs
`yes`. The p99 of the others should not double, none of their bytes may be lost, and the server's memory must not grow
with unread bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

import uvloop
from center import Center, center
from clients import STAMP, LoadAgent, LoadViewer
from real_agent import real_agent

CHUNKS_A_SECOND = 100
WARM_SECONDS = 3.0
SETTLE_SECONDS = 1.0
PATIENCE_SECONDS = 30.0


class Watched:
    """An agent and its viewers; `others` are the viewers that keep reading."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._agent = LoadAgent()
        self._latencies: list[int] = []
        self.viewers: list[LoadViewer] = []
        self.others = 0

    async def begin(self, server: Center, viewers: int) -> None:
        credentials = await server.enrol("watched")
        await self._agent.connect(server.url, credentials.access_token)
        for _ in range(viewers):
            viewer = LoadViewer(server.url, credentials.agent_id, server.token, self._size, self._latencies)
            await viewer.connect()
            self.viewers.append(viewer)
        self.others = viewers

    async def stream(self, seconds: float) -> tuple[float, float]:
        """The p99 of the others in milliseconds, and the number of lost chunks."""
        self._latencies.clear()
        pad = b"x" * (self._size - STAMP.size)
        began, count = time.monotonic(), int(seconds * CHUNKS_A_SECOND)
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / CHUNKS_A_SECOND - time.monotonic()))
            self._agent.send_stamped(pad)
        due, deadline = count * self.others, time.monotonic() + PATIENCE_SECONDS
        while len(self._latencies) < due and time.monotonic() < deadline:  # noqa: ASYNC110 — a bound on waiting
            await asyncio.sleep(0.02)
        came = sorted(self._latencies)
        return came[int(len(came) * 0.99)] / 1e6, float(due - len(came))

    def leave(self) -> None:
        for client in (self._agent, *self.viewers):
            client.leave()


class Reader(LoadViewer):
    """A viewer that only counts bytes."""

    def read(self, data: bytes) -> None:
        self.bytes += len(data)


async def stuck(seconds: float = 10.0) -> dict[str, float]:
    """The delays of the others before and while one is stuck, and the growth of the server's memory in MiB."""
    async with center() as server:
        watched = Watched(4096)
        await watched.begin(server, 50)
        await watched.stream(WARM_SECONDS)
        before, _ = await watched.stream(seconds)
        memory = server.rss()
        watched.viewers[0].be_stuck()
        watched.others -= 1
        await asyncio.sleep(SETTLE_SECONDS)
        during, lost = await watched.stream(seconds)
        growth = (server.rss() - memory) / 2**20
        watched.leave()
    return {"p99 ms before": before, "p99 ms": during, "lost": lost, "growth MiB": growth}


async def flooding(seconds: float = 10.0) -> dict[str, float]:
    """The delays of the others before and during a flood, and how many of its bytes arrive."""
    with tempfile.TemporaryDirectory(prefix="onsembl-flood-") as folder:
        async with center() as server, real_agent(server, Path(folder)) as agent_id:
            watched = Watched(256)
            await watched.begin(server, 10)
            reader = Reader(server.url, agent_id, server.token, 1, [])
            await reader.connect()
            await watched.stream(WARM_SECONDS)
            before, _ = await watched.stream(seconds)
            command = await server.post(f"/v1/agents/{agent_id}/commands", {"text": "yes"})
            async with asyncio.timeout(PATIENCE_SECONDS):
                while reader.bytes < 1024 * 1024:  # noqa: ASYNC110 — clients are callbacks
                    await asyncio.sleep(0.02)
            memory, seen, began = server.rss(), reader.bytes, time.monotonic()
            during, lost = await watched.stream(seconds)
            rate = (reader.bytes - seen) / 2**20 / (time.monotonic() - began)
            growth = (server.rss() - memory) / 2**20
            await server.post(f"/v1/commands/{command['id']}/cancel", {})
            reader.leave()
            watched.leave()
    return {"p99 ms before": before, "p99 ms": during, "lost": lost, "growth MiB": growth, "flood MiB/s": rate}


async def _all(seconds: float) -> dict[str, dict[str, float]]:
    return {"one of fifty viewers stuck": await stuck(seconds), "another agent floods": await flooding(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds for each measurement")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    result = uvloop.run(_all(options.seconds))
    for what, measures in result.items():
        print(f"{what:<26} {', '.join(f'{name} {value:.2f}' for name, value in measures.items())}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
