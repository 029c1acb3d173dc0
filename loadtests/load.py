"""Load scenarios with Locust, for a new control center or one at a URL.

    python loadtests/load.py steady|day|soak|storm|limit [--seconds N] [--agents N] [--operators N] [--html FILE]
                             [--terminal-p99 200] [--command-p99 1000] … [--memory-growth 10] [--json FILE]
    ONSEMBL_PASSWORD=… python loadtests/load.py day --url https://… --email admin@example.org

`steady`: 10 agents and 5 operators for 5 minutes. `day`: 100 and 50 for 10 minutes. `soak`: as steady, for 8 hours.
`storm`: 1,000 agents lose their connection at once. `limit`: the number of agents with five viewers each grows until
the p99 of deliveries exceeds the threshold or deliveries are missing; the share of the recorded rate that the agents
could send is printed, too.

At the end, every command must have ended, every viewer must have the last byte of its terminal, every expected row
must be on the pages, and every terminal must be in the archive. Exits with 1 when a request failed, a byte or a
command was lost, a value was not measured, or a threshold (milliseconds at p99, percent, connections) was missed. A
run of less than two minutes may lack rare events, and the growth of its memory is not judged.

Each operator has an account of its own; at a URL, only a session of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from center import Center, center, session
from fleet_agents import PAUSE_SECONDS, TRAFFIC
from load_process import STATION_VIEWERS
from operators import COMMAND_SECONDS

WATCH_SECONDS = 1.0
SHORT_SECONDS = 120
"""In a shorter run the first and the last minute are the same, and rare events may not happen."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of agents and operators, and the seconds for which they run after all have connected.

    With `history`, the agents begin with full rings, so the server's memory should not grow by more than `growth`
    percent. A `ramp` adds this many agents at each step.
    """

    agents: int
    operators: int
    seconds: int
    storm_after: int | None = None
    history: bool = False
    growth: float | None = None
    ramp: int | None = None


SHAPES = {
    "steady": Shape(10, 5, 300, history=True, growth=10.0),
    "day": Shape(100, 50, 600),
    "soak": Shape(10, 5, 8 * 3600, history=True, growth=10.0),
    "storm": Shape(1000, 5, 120, storm_after=60),
    "limit": Shape(5000, 0, 3600, ramp=100),
}


class Watch:
    """Samples of the server's memory (bytes), connections to Postgres, and processor time."""

    def __init__(self, server: Center) -> None:
        self._server = server
        self._memory: list[tuple[float, int]] = []
        self._connections = 0
        self._busy: list[float] = []

    async def run(self) -> None:
        process = psutil.Process(self._server.pid)
        process.cpu_percent()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self._memory.append((time.monotonic(), self._server.rss()))
            self._connections = max(self._connections, self._server.connections())
            self._busy.append(process.cpu_percent())

    def totals(self) -> dict[str, float]:
        """The most memory in the first and the last minute, and its growth in percent if these are two minutes."""
        if not self._memory:
            return {}
        began, ended = self._memory[0][0], self._memory[-1][0]
        first = max(size for at, size in self._memory if at <= began + 60)
        last = max(size for at, size in self._memory if at >= ended - 60)
        growth = {"memory, growth, %": round((last / first - 1) * 100, 1)} if ended - began >= SHORT_SECONDS else {}
        return {
            "memory, first minute, MiB": round(first / 2**20, 1),
            "memory, last minute, MiB": round(last / 2**20, 1),
            **growth,
            "Postgres connections, at most": self._connections,
            "server, % of a processor, at most": max(self._busy),
        }


async def run(options: argparse.Namespace) -> int:
    shape = SHAPES[options.shape]
    agents = shape.agents if options.agents is None else options.agents
    operators = shape.operators if options.operators is None else options.operators
    seconds = options.seconds or shape.seconds
    async with AsyncExitStack() as stack:
        watch: Watch | None = None
        accounts: list[tuple[str, str]] = []
        if options.url:
            url, email, password = options.url.rstrip("/"), options.email, os.environ["ONSEMBL_PASSWORD"]
            if (why := await _not_signed_in(url, email, password)) is not None:
                print(f"missed: {why}")
                _write(options.json, {"missed": [why]})
                return 1
        else:
            server = await stack.enter_async_context(center())
            url, email, password = server.url, server.email, server.password
            accounts = await server.add_operators(operators)
            watch = Watch(server)
        result = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onsembl-load-"))) / "result.json"
        limits, optional = _limits(shape, options, operators=operators, seconds=seconds)
        environment = os.environ | {
            "LOAD_URL": url,
            "LOAD_EMAIL": email,
            "LOAD_PASSWORD": password,
            "LOAD_ACCOUNTS": json.dumps(accounts),
            "LOAD_AGENTS": str(agents),
            "LOAD_OPERATORS": str(operators),
            "LOAD_SECONDS": str(seconds),
            "LOAD_STORM_AFTER": str(min(shape.storm_after, seconds // 2)) if shape.storm_after else "",
            "LOAD_HISTORY": "1" if shape.history else "",
            "LOAD_ARCHIVE": "" if shape.ramp else "1",
            "LOAD_RENEWAL": str(options.renewal_seconds or ""),
            "LOAD_PAUSE": str(options.command_seconds),
            "LOAD_RAMP": json.dumps(_ramp(shape, options)),
            "LOAD_LIMITS": json.dumps(limits),
            "LOAD_OPTIONAL": json.dumps(optional),
            "LOAD_RESULT": str(result),
        }
        arguments = ["--headless", "-f", str(Path(__file__).parent / "locustfile.py"), "--only-summary"]
        if shape.ramp is None:
            arguments += ["-u", str(agents + operators), "-r", str(options.rate)]
        else:
            arguments += ["-t", f"{seconds}s"]
        if options.html:
            arguments += ["--html", str(options.html)]
        arguments += ["--stop-timeout", "5"]
        watching = asyncio.create_task(watch.run()) if watch is not None else None
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "locust", *arguments, env=environment)
        code = await process.wait()
        measured: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {}
        missed = [] if result.exists() else ["the load did not come to its end"]
        if watching is not None and watch is not None:
            watching.cancel()
            (end,) = await asyncio.gather(watching, return_exceptions=True)
            if not isinstance(end, asyncio.CancelledError):
                missed.append(f"the server was not watched to the end: {end!r}")
            measured["server"] = watch.totals()
            missed += _judged(measured["server"], options, shape.growth)
        for why in missed:
            print(f"missed: {why}")
        measured["missed"] = measured.get("missed", []) + missed
        _write(options.json, measured)
        return 1 if code or missed else 0


async def _not_signed_in(url: str, email: str, password: str) -> str | None:
    """Why nobody can sign in at the URL; None after a sign-in."""
    async with session() as http:
        try:
            await Center(url, http, email, password).sign_in()
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{email} could not sign in at {url}: {error or type(error).__name__}"
    return None


def _write(file: Path | None, found: dict[str, Any]) -> None:
    if file is not None:
        file.write_text(json.dumps(found, indent=2) + "\n")


def _ramp(shape: Shape, options: argparse.Namespace) -> dict[str, Any] | None:
    if shape.ramp is None:
        return None
    return {
        "step": options.step or shape.ramp,
        "seconds": options.step_seconds,
        "most": shape.agents if options.agents is None else options.agents,
        "least": options.least_agents,
        "rate": options.rate,
        "viewers": STATION_VIEWERS,
        "chunks": len(TRAFFIC) / (TRAFFIC[-1][0] + PAUSE_SECONDS),
    }


def _limits(
    shape: Shape, options: argparse.Namespace, *, operators: int, seconds: int
) -> tuple[dict[str, float], list[str]]:
    """The threshold of each row in milliseconds at p99, and the rows that may be missing."""
    limits: dict[str, float] = {"rotate tokens": options.rotation_p99}
    rare = ["rotate tokens"]
    if shape.storm_after:  # what was written meanwhile comes late, as it must
        return limits | {"POST → agent": options.storm_p99, "all are back": options.storm_p99}, rare
    if operators or shape.ramp:
        limits |= {"agent → viewer": options.terminal_p99}
    if operators:
        limits |= {
            "POST → agent": options.command_p99,
            "key → agent → page": options.key_p99,
            "POST → row": options.row_p99,
            "cancel → cancelled": options.cancel_p99,
        }
        rare += ["key → agent → page", "POST → row", "cancel → cancelled"]
    return limits, rare if seconds < SHORT_SECONDS else []


def _judged(measures: dict[str, float], options: argparse.Namespace, growth: float | None) -> list[str]:
    """The missed thresholds of memory and connections."""
    for name, figure in measures.items():
        print(f"{name}: {figure:g}")
    if not measures:
        return ["the server was not looked at"]
    missed: list[str] = []
    if measures["Postgres connections, at most"] > options.connections:
        missed.append(f"more than {options.connections} connections to Postgres")
    growth = growth if options.memory_growth is None else options.memory_growth
    if growth is not None and measures.get("memory, growth, %", 0) > growth:
        missed.append(f"the server's memory grew by more than {growth:g} %")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--url", help="the URL of a running control center")
    parser.add_argument("--email", help="the e-mail address of an admin there")
    parser.add_argument("--seconds", type=int, help="duration; the default depends on the scenario")
    parser.add_argument("--agents", type=int)
    parser.add_argument("--operators", type=int)
    parser.add_argument("--rate", type=int, default=50, help="arrivals a second")
    parser.add_argument("--terminal-p99", type=float, default=200.0)
    parser.add_argument("--command-p99", type=float, default=1000.0)
    parser.add_argument("--key-p99", type=float, default=200.0)
    parser.add_argument(
        "--row-p99", type=float, default=1000.0, help="from the POST of a command to its row on the page, in ms"
    )
    parser.add_argument(
        "--cancel-p99", type=float, default=1000.0, help="from the POST of a cancel to its end on the page, in ms"
    )
    parser.add_argument("--rotation-p99", type=float, default=1000.0)
    parser.add_argument("--storm-p99", type=float, default=10_000.0, help="until every agent is connected again, in ms")
    parser.add_argument(
        "--memory-growth", type=float, help="maximum growth from the first minute to the last, in percent"
    )
    parser.add_argument("--connections", type=int, default=40, help="maximum connections to Postgres")
    parser.add_argument(
        "--command-seconds",
        type=float,
        default=COMMAND_SECONDS,
        help="average time between two commands of an operator",
    )
    parser.add_argument(
        "--renewal-seconds",
        type=float,
        help="time between refreshes of operators' tokens; default: half of their lifetime",
    )
    parser.add_argument("--step", type=int, help="for limit: agents to add at each step")
    parser.add_argument("--step-seconds", type=float, default=10.0, help="for limit: seconds to measure each step")
    parser.add_argument("--least-agents", type=int, default=1, help="for limit: fail below this number of agents")
    parser.add_argument("--json", type=Path, help="write all measurements and missed thresholds to this file")
    parser.add_argument("--html", type=Path, help="write Locust's report to this file")
    options = parser.parse_args()
    if options.url and (not options.email or not os.environ.get("ONSEMBL_PASSWORD")):
        parser.error("with --url, give --email, and the password in ONSEMBL_PASSWORD")
    if options.memory_growth is not None:
        if options.url:
            parser.error("the memory of a server at an address cannot be seen")
        if (options.seconds or SHAPES[options.shape].seconds) < SHORT_SECONDS:
            parser.error(f"--memory-growth needs a run of at least {SHORT_SECONDS} s")
    sys.exit(asyncio.run(run(options)))


if __name__ == "__main__":
    main()
