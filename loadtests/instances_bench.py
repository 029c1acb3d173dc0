"""Measure what the relay between two instances costs: viewers at the other instance, and at the agents' own.

    python loadtests/instances_bench.py [--rounds 3] [--seconds 5] [--json FILE]

Ten agents send 50 chunks of 256 B a second each; two viewers watch each of them. In each round they watch at the
agents' instance first, and then at the other one, which relays. Prints medians of the rounds. Exits with 1 when a chunk
was lost, or the relay added more than 1 ms to the median or more than 5 ms to the p99.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import statistics
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import uvloop
from center import ONSEMBL, Center, center, clean_environment, read_until_ready
from clients import STAMP, LoadAgent, LoadViewer
from relay_bench import LOADS, PACED, Load, measure, worked_seconds

from onsembl.cli.server.database_url import running_database

MORE_P50_MS = 1.0
MORE_P99_MS = 5.0
Measures = dict[str, float]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@asynccontextmanager
async def _second_instance(first: Center) -> AsyncGenerator[tuple[str, int]]:
    """Another instance on the same database: its URL and its process."""
    assert first.folder is not None
    port = _free_port()
    environment = clean_environment() | {
        "DATABASE_URL": await asyncio.to_thread(running_database, None, first.folder),
        "ONSEMBL_PUBLIC_URL": first.url,
    }
    command = (*ONSEMBL, "up", "--no-worker", "--port", str(port), "--data-dir", str(first.folder.parent / "second"))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    try:
        await read_until_ready(process)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


class Fleet:
    """The agents, which are connected to the first instance."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._agents: list[tuple[str, LoadAgent]] = []

    async def connect(self, server: Center) -> None:
        for number in range(self._load.agents):
            credentials, agent = await server.enrol(f"load-{number}"), LoadAgent()
            await agent.connect(server.url, credentials.access_token)
            self._agents.append((credentials.agent_id, agent))

    async def watched(self, url: str, server: Center, relay: int | None = None) -> Measures:
        """What viewers at this URL have, and what a delivery costs the owner and, if there is one, the relay."""
        load, latencies = self._load, list[int]()
        viewers = [
            LoadViewer(url, agent_id, server.token, load.size, latencies)
            for agent_id, _ in self._agents
            for _ in range(load.viewers)
        ]
        for viewer in viewers:
            await viewer.connect()
        await asyncio.sleep(0.5)
        latencies.clear()
        pad = b"x" * (load.size - STAMP.size)
        before = worked_seconds(relay) if relay is not None else 0.0
        assert server.pid is not None
        agents = self._agents
        measures = await measure(load, lambda n: agents[n % len(agents)][1].send_stamped(pad), latencies, server.pid)
        measures["owner µs/delivery"] = measures.pop("server µs/delivery")
        if relay is not None:
            measures["relay µs/delivery"] = (worked_seconds(relay) - before) / len(latencies) * 1e6
        for viewer in viewers:
            viewer.leave()
        return measures

    def leave(self) -> None:
        for _, agent in self._agents:
            agent.leave()


async def measured(rounds: int, seconds: float) -> dict[str, Measures]:
    """The medians of the rounds: `direct` at the agents' instance, `relayed` at the other one."""
    found: dict[str, list[Measures]] = {"direct": [], "relayed": []}
    async with center() as first, _second_instance(first) as (url, pid):
        fleet = Fleet(replace(LOADS[PACED], seconds=seconds))
        await fleet.connect(first)
        for _ in range(rounds):
            found["direct"].append(await fleet.watched(first.url, first))
            found["relayed"].append(await fleet.watched(url, first, pid))
        fleet.leave()
    return {
        way: {name: round(statistics.median(each[name] for each in all_rounds), 3) for name in all_rounds[0]}
        for way, all_rounds in found.items()
    }


def missed(result: dict[str, Measures]) -> list[str]:
    """The targets that were missed, in words."""
    direct, relayed = result["direct"], result["relayed"]
    wrong = [
        f"the relay adds {relayed[name] - direct[name]:.2f} to the {name}, more than {most:g}"
        for name, most in (("p50 ms", MORE_P50_MS), ("p99 ms", MORE_P99_MS))
        if relayed[name] - direct[name] > most
    ]
    return wrong + [f"{way}: {each['lost']:g} chunks were lost" for way, each in result.items() if each["lost"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the medians are shown")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds for each measurement")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    result = uvloop.run(measured(options.rounds, options.seconds))
    for way, measures in result.items():
        print(f"{way:<8} {', '.join(f'{name} {value:g}' for name, value in measures.items())}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    if wrong := missed(result):
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
