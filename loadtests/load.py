"""Load as Locust reports it, against a control center that this starts, or one at an address.

    python loadtests/load.py steady|day|storm [--seconds N] [--agents N] [--operators N] [--html FILE]
                             [--terminal-p99 200] [--command-p99 1000]
    ONSEMBL_PASSWORD=… python loadtests/load.py day --url https://… --email admin@example.org

`steady`: 10 agents and 5 operators. `day`: 100 and 50. `storm`: 1,000 agents that are all cut off at once. Exits with
1 when a request failed, a byte or a command was lost, or a threshold (milliseconds at p99) was missed.
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

from center import Center, center


@dataclass(frozen=True, slots=True)
class Shape:
    """How many of whom, for how many seconds; when all agents are cut off, if they are."""

    agents: int
    operators: int
    seconds: int
    storm_after: int | None = None


SHAPES = {
    "steady": Shape(10, 5, 300),
    "day": Shape(100, 50, 600),
    "soak": Shape(10, 5, 8 * 3600),
    "storm": Shape(1000, 5, 120, 60),
}


async def watch(server: Center, every: float = 5.0) -> None:
    """Print the server's memory, and at the end how it has grown since the first minute."""
    seen: list[int] = []
    connections = 0
    try:
        while True:
            await asyncio.sleep(every)
            seen.append(server.rss())
            connections = max(connections, server.connections())
    finally:
        early, late = seen[: int(60 / every)], seen[-3:]
        if late:
            now, before = max(late) / 2**20, max(early) / 2**20
            print(f"server memory: {before:.0f} MiB at most in the first minute, {now:.0f} MiB at the end")
            print(f"Postgres connections: at most {connections}")


async def run(options: argparse.Namespace) -> int:
    shape = SHAPES[options.shape]
    agents, operators = options.agents or shape.agents, options.operators or shape.operators
    async with AsyncExitStack() as stack:
        environment = dict(os.environ)
        watching: asyncio.Task[None] | None = None
        if options.url:
            url, email, password = options.url.rstrip("/"), options.email, os.environ["ONSEMBL_PASSWORD"]
        else:
            server = await stack.enter_async_context(center())
            url, email, password = server.url, server.email, server.password
            watching = asyncio.create_task(watch(server))
        environment |= {
            "LOAD_URL": url,
            "LOAD_EMAIL": email,
            "LOAD_PASSWORD": password,
            "LOAD_AGENTS": str(agents),
            "LOAD_OPERATORS": str(operators),
            "LOAD_STORM_AFTER": str(shape.storm_after or ""),
            "LOAD_LIMITS": json.dumps(
                {"agent → viewer": options.terminal_p99, "POST → agent": options.command_p99}
                | ({"all are back": options.storm_p99} if shape.storm_after else {})
            ),
        }
        arguments = ["--headless", "-f", str(Path(__file__).parent / "locustfile.py"), "--only-summary"]
        arguments += [
            "-u",
            str(agents + operators),
            "-r",
            str(options.rate),
            "-t",
            f"{options.seconds or shape.seconds}s",
        ]
        arguments += ["--stop-timeout", "5", *(["--html", str(options.html)] if options.html else [])]
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "locust", *arguments, env=environment)
        code = await process.wait()
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        return code


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
    parser.add_argument("--html", type=Path, help="Locust's report")
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
