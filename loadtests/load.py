"""Load as Locust reports it, against a control center that this starts, or one at an address.

    python loadtests/load.py steady|day|soak|storm|limit [--seconds N] [--agents N] [--operators N] [--html FILE]
                             [--terminal-p99 200] [--command-p99 1000] [--memory-growth 10] [--json FILE]
    ONSEMBL_PASSWORD=… python loadtests/load.py day --url https://… --email admin@example.org

`steady`: 10 agents and 5 operators for 5 minutes. `day`: 100 and 50, for 10. `soak`: as steady, for 8 hours. `storm`:
1,000 agents that are all cut off at once. `limit`: agents with five viewers each, more and more of them, until 99 % of
what those see is not there within the threshold; beside it, how much of the recorded rate the load could send.

Exits with 1 when a request failed, a byte or a command was lost, or a threshold (milliseconds at p99, percent) was
missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from center import Center, center
from fleet import STATION_VIEWERS
from fleet_agents import PAUSE_SECONDS, TRAFFIC

WATCH_SECONDS = 5.0
MINUTE = int(60 / WATCH_SECONDS)


@dataclass(frozen=True, slots=True)
class Shape:
    """How many of whom, for how many seconds.

    When all agents are cut off, if they are. With `history` the agents have shown so much already that the server keeps
    no more of each than it does at the start. A `ramp` adds so many agents a step.
    """

    agents: int
    operators: int
    seconds: int
    storm_after: int | None = None
    history: bool = False
    ramp: int | None = None


SHAPES = {
    "steady": Shape(10, 5, 300, history=True),
    "day": Shape(100, 50, 600),
    "soak": Shape(10, 5, 8 * 3600, history=True),
    "storm": Shape(1000, 5, 120, storm_after=60),
    "limit": Shape(5000, 0, 3600, ramp=100),
}


class Watch:
    """What the server is seen to take: memory (bytes), connections to Postgres, processor time."""

    def __init__(self, server: Center) -> None:
        self._server = server
        self._memory: list[int] = []
        self._connections = 0
        self._busy: list[float] = []

    async def run(self) -> None:
        process = psutil.Process(self._server.pid)
        process.cpu_percent()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self._memory.append(self._server.rss())
            self._connections = max(self._connections, self._server.connections())
            self._busy.append(process.cpu_percent())

    def figures(self) -> dict[str, float]:
        """The memory of the first and of the last minute, at most; in percent what it has grown by."""
        if not self._memory:
            return {}
        first, last = max(self._memory[:MINUTE]), max(self._memory[-MINUTE:])
        return {
            "memory, first minute, MiB": round(first / 2**20, 1),
            "memory, last minute, MiB": round(last / 2**20, 1),
            "memory, growth, %": round((last / first - 1) * 100, 1),
            "Postgres connections, at most": self._connections,
            "server, % of a processor, at most": max(self._busy),
        }


async def run(options: argparse.Namespace) -> int:
    shape = SHAPES[options.shape]
    agents, operators = options.agents or shape.agents, options.operators or shape.operators
    async with AsyncExitStack() as stack:
        watch: Watch | None = None
        if options.url:
            url, email, password = options.url.rstrip("/"), options.email, os.environ["ONSEMBL_PASSWORD"]
        else:
            server = await stack.enter_async_context(center())
            url, email, password = server.url, server.email, server.password
            watch = Watch(server)
        environment = os.environ | {
            "LOAD_URL": url,
            "LOAD_EMAIL": email,
            "LOAD_PASSWORD": password,
            "LOAD_AGENTS": str(agents),
            "LOAD_OPERATORS": str(operators),
            "LOAD_STORM_AFTER": str(shape.storm_after or ""),
            "LOAD_HISTORY": "1" if shape.history else "",
            "LOAD_RAMP": json.dumps(_ramp(shape, options)),
            "LOAD_LIMITS": json.dumps(_limits(shape, options)),
        }
        arguments = ["--headless", "-f", str(Path(__file__).parent / "locustfile.py"), "--only-summary"]
        if shape.ramp is None:
            seconds = options.seconds or shape.seconds
            arguments += ["-u", str(agents + operators), "-r", str(options.rate), "-t", f"{seconds}s"]
        arguments += ["--stop-timeout", "5", *(["--html", str(options.html)] if options.html else [])]
        watching = asyncio.create_task(watch.run()) if watch is not None else None
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "locust", *arguments, env=environment)
        code = await process.wait()
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        return max(code, _judged(watch.figures() if watch is not None else {}, options))


def _ramp(shape: Shape, options: argparse.Namespace) -> dict[str, Any] | None:
    if shape.ramp is None:
        return None
    return {
        "step": options.step or shape.ramp,
        "seconds": options.step_seconds,
        "most": options.agents or shape.agents,
        "least": options.least_agents,
        "rate": options.rate,
        "viewers": STATION_VIEWERS,
        "chunks": len(TRAFFIC) / (TRAFFIC[-1][0] + PAUSE_SECONDS),
    }


def _limits(shape: Shape, options: argparse.Namespace) -> dict[str, float]:
    if shape.storm_after:  # what was written meanwhile comes late, as it must
        return {"POST → agent": options.storm_p99, "all are back": options.storm_p99}
    return {"agent → viewer": options.terminal_p99, "POST → agent": options.command_p99}


def _judged(figures: dict[str, float], options: argparse.Namespace) -> int:
    for name, figure in figures.items():
        print(f"{name}: {figure:g}")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.memory_growth is not None and figures.get("memory, growth, %", 0) > options.memory_growth:
        print(f"missed: the server's memory grew by more than {options.memory_growth:g} %")
        return 1
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--url", help="a control center that runs already")
    parser.add_argument("--email", help="who signs in there; an admin")
    parser.add_argument("--seconds", type=int, help="how long; by the shape otherwise")
    parser.add_argument("--agents", type=int)
    parser.add_argument("--operators", type=int)
    parser.add_argument("--rate", type=int, default=50, help="arrivals a second")
    parser.add_argument("--terminal-p99", type=float, default=200.0)
    parser.add_argument("--command-p99", type=float, default=1000.0)
    parser.add_argument("--storm-p99", type=float, default=10_000.0, help="until every agent is back")
    parser.add_argument("--memory-growth", type=float, help="percent from the first minute to the last")
    parser.add_argument("--step", type=int, help="of limit: so many agents more at a time")
    parser.add_argument("--step-seconds", type=float, default=10.0, help="of limit: how long each step is looked at")
    parser.add_argument("--least-agents", type=int, default=1, help="of limit: fewer are a failure")
    parser.add_argument("--json", type=Path, help="what the server took")
    parser.add_argument("--html", type=Path, help="Locust's report")
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
