"""Measure what the times of terminal lines cost: the relay's delays with viewers that take them, and without.

    python loadtests/times_bench.py [--rounds 12] [--seconds 2] [--json FILE]

In one server, half of the agents have viewers that take the times, half have viewers that do not. The halves send in
turns, the order changing from round to round, so that the machine's noise hits both. Prints the medians of the rounds,
and of the rounds' ratios (with / without) the median and the quartiles.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path

import uvloop
from center import center
from clients import STAMP, LoadAgent, LoadViewer
from relay_bench import FASTER, LOADS, PACED, Load, measure

MEASURES = ("p50 ms", "p99 ms", "server µs/delivery")


class Half:
    """Agents, and viewers of them that take the times or do not."""

    def __init__(self, times: bool) -> None:
        self._times = times
        self._agents: list[LoadAgent] = []
        self._viewers: list[LoadViewer] = []
        self._latencies: list[int] = []

    async def join(self, server, load: Load) -> None:
        """Connect the agents and the viewers of a load."""
        for number in range(load.agents):
            credentials = await server.enrol(f"{'with' if self._times else 'without'}-{number}")
            agent = LoadAgent()
            await agent.connect(server.url, credentials.access_token)
            self._agents.append(agent)
            for _ in range(load.viewers):
                place = (server.url, credentials.agent_id, server.token, load.size, self._latencies)
                viewer = LoadViewer(*place, times=self._times)
                await viewer.connect()
                self._viewers.append(viewer)

    async def measure(self, load: Load, pid: int) -> dict[str, float]:
        """Send the load once."""
        self._latencies.clear()
        pad = b"x" * (load.size - STAMP.size)
        agents = self._agents
        return await measure(load, lambda n: agents[n % len(agents)].send_stamped(pad), self._latencies, pid)

    def leave(self) -> None:
        for client in (*self._agents, *self._viewers):
            client.leave()


async def compare(load: Load, rounds: int) -> dict[str, dict[str, float]]:
    """For each measure: the medians `with` and `without` times, and the quartiles of their ratio."""
    async with center() as server:
        halves = {"with": Half(times=True), "without": Half(times=False)}
        for half in halves.values():
            await half.join(server, load)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in halves}
        for number in range(rounds + 1):
            order = list(halves.items()) if number % 2 else list(halves.items())[::-1]
            for name, half in order:
                measured = await half.measure(load, server.pid)
                if number:  # the first round warms up
                    found[name].append(measured)
        for half in halves.values():
            half.leave()
    return {name: compared(*([one[name] for one in found[half]] for half in halves)) for name in MEASURES}


def compared(timed: list[float], plain: list[float]) -> dict[str, float]:
    """The medians of both, and the quartiles of the ratios of the rounds, of which there are two at least."""
    low, middle, high = statistics.quantiles([one / other for one, other in zip(timed, plain, strict=True)], n=4)
    medians = {"with": statistics.median(timed), "without": statistics.median(plain)}
    return {**medians, "ratio": middle, "from": low, "to": high}


def main() -> None:
    """Measure both loads, and print a line for each measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name in (PACED, FASTER):
        load = replace(LOADS[name], seconds=options.seconds)
        result[name] = uvloop.run(compare(load, options.rounds))
        print(f"{name}, {options.rounds} rounds of {options.seconds:g} s")
        for one, found in result[name].items():
            ratio = f"ratio {found['ratio']:.3f} ({found['from']:.3f} to {found['to']:.3f})"
            print(f"  {one:<20} with {found['with']:8.3f}  without {found['without']:8.3f}  {ratio}", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
