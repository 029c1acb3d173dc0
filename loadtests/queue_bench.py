"""Measure the cost of long queues: the delay of a command to an idle agent while thousands wait for other agents, and
the processor time of Postgres.

    python loadtests/queue_bench.py [--queued 10000] [--samples 400] [--idle-seconds 20] [--json FILE]

Starts a control center, ten agents that stay busy, and an idle one. Measures with empty queues, with this many commands
in the queues of the ten, and after those were cancelled. The target is at most 20 % more than with empty queues.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import psutil
import uvloop
from center import Center, center
from clients import LoadAgent
from command_bench import Arrivals, send

BUSY = 10
PACE_SECONDS = 0.02
POSTERS = 8
COLUMNS = ("p50 ms", "p99 ms", "Postgres, % of a processor", "server, % of a processor")


class Bench:
    """The control center and its agents; the last agent is idle."""

    def __init__(self, server: Center, samples: int, idle_seconds: float) -> None:
        self._server = server
        self._samples = samples
        self._idle_seconds = idle_seconds
        self._arrivals = Arrivals()
        self._numbers = itertools.count()
        self.ids: list[str] = []
        self._agents: list[LoadAgent] = []

    async def begin(self) -> None:
        for number in range(BUSY + 1):
            credentials = await self._server.enrol(f"load-{number}")
            idle = number == BUSY
            agent = LoadAgent(self._arrivals.arrived if idle else None, busy=not idle)
            await agent.connect(self._server.url, credentials.access_token)
            self._agents.append(agent)
            self.ids.append(credentials.agent_id)
        for agent_id in self.ids[:BUSY]:
            await self._server.post(f"/v1/agents/{agent_id}/commands", {"text": "for good"})
        for _ in range(100):
            await self._send()

    async def _send(self) -> float:
        async def post(number: int) -> None:
            await self._server.post(f"/v1/agents/{self.ids[BUSY]}/commands", {"text": str(number)})

        return await send(self._arrivals, post, next(self._numbers))

    async def fill(self, count: int) -> None:
        """Queue this many commands, spread evenly over the busy agents."""
        left = iter(range(count // BUSY))
        target = {"agents": self.ids[:BUSY]}

        async def poster() -> None:
            for number in left:
                await self._server.post("/v1/groups", {"text": f"waits {number}", "target": target})

        await asyncio.gather(*(poster() for _ in range(POSTERS)))

    async def waiting(self) -> int:
        """The number of queued commands."""
        return (await self._server.get("/v1/statistics"))["commands"]["queued"]

    async def empty(self) -> None:
        for agent_id in self.ids[:BUSY]:
            await self._server.post(f"/v1/agents/{agent_id}/cancel-all", {})

    async def measure(self) -> dict[str, float]:
        await asyncio.sleep(2)  # what was done last is over
        postgres, server = self._processes()
        await asyncio.sleep(self._idle_seconds)
        postgres_later, server_later = self._processes()
        taken: list[float] = []
        for _ in range(self._samples):
            taken.append(await self._send())
            await asyncio.sleep(PACE_SECONDS)
        taken.sort()
        measures = (
            statistics.median(taken) * 1e3,
            taken[int(len(taken) * 0.99)] * 1e3,
            (postgres_later - postgres) / self._idle_seconds * 100,
            (server_later - server) / self._idle_seconds * 100,
        )
        return {name: round(figure, 2) for name, figure in zip(COLUMNS, measures, strict=True)}

    def _processes(self) -> tuple[float, float]:
        """Processor seconds so far of Postgres and of the server."""
        return sum(_seconds(process) for process in self._server.postgres()), _seconds(psutil.Process(self._server.pid))


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system + times.children_user + times.children_system


async def run(queued: int, samples: int, idle_seconds: float) -> dict[str, Any]:
    async with center() as server:
        bench = Bench(server, samples, idle_seconds)
        await bench.begin()
        rows: dict[str, dict[str, float]] = {"nothing waits": await bench.measure()}
        print(f"queueing {queued} …", file=sys.stderr)
        await bench.fill(queued)
        waiting = await bench.waiting()
        rows[f"{waiting} wait"] = await bench.measure()
        await bench.empty()
        rows["those are cancelled"] = await bench.measure()
        before, full, after = rows.values()
        ratios = {name: round(full[name] / statistics.mean((before[name], after[name])), 2) for name in COLUMNS[:2]}
        return {"queued": waiting, "rows": rows, "ratios": ratios}


async def ratios(queued: int = 10_000, samples: int = 400) -> dict[str, float]:
    """For the table: values with the queue, and their ratios to those without."""
    result = await run(queued, samples, idle_seconds=1.0)
    full = list(result["rows"].values())[1]
    return {name: full[name] for name in COLUMNS[:2]} | {
        f"{name}, ×": ratio for name, ratio in result["ratios"].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--idle-seconds", type=float, default=20.0, help="seconds to watch Postgres")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = uvloop.run(run(options.queued, options.samples, options.idle_seconds))
    print("| | " + " | ".join(COLUMNS) + " |\n| --- " + "| ---: " * len(COLUMNS) + "|")
    for name, measures in result["rows"].items():
        print(f"| {name} | " + " | ".join(f"{measures[column]:g}" for column in COLUMNS) + " |")
    print("with the queue to without: " + ", ".join(f"{name} × {ratio:g}" for name, ratio in result["ratios"].items()))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
