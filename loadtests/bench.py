"""The table of how fast it is, beside the programs that people would otherwise run.

    python loadtests/bench.py [--rounds 3] [--only relay command] [--peer-relay PATH] [--peer-command PATH]
                              [--json FILE] [--markdown FILE]

Ours and each peer in turn, in one run, on this machine: medians of so many rounds, and ratios. The peers are programs
of Node (`node PATH PORT`): a relay that passes what comes at `/agent/ID` on to `/view/ID`, and a queue (`node PATH PORT
REDIS_PORT`, with a Redis that writes each change to disk) that takes POST `/commands` and sends it to `/agent/ID`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import command_bench
import relay_bench
import uvloop

Figures = dict[str, float]
Case = Callable[[], Awaitable[Figures]]


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = next((int(line.split()[1]) // 1024 for line in _lines("/proc/meminfo") if "MemTotal" in line), 0)
    return {
        "processor": model or platform.processor(),
        "processors": os.cpu_count(),
        "memory_mib": memory,
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": [round(value, 1) for value in os.getloadavg()],
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def cases(options: argparse.Namespace) -> dict[str, dict[str, Case]]:
    """What is measured: row of the table → program → how."""
    relay: dict[str, dict[str, Case]] = {}
    for name, load in relay_bench.LOADS.items():
        relay[f"relay: {name}"] = {"ours": lambda load=load: relay_bench.ours(load)}
        if options.peer_relay and load.agents * load.viewers <= 100:
            relay[f"relay: {name}"]["peer"] = lambda load=load: relay_bench.peer(options.peer_relay, load)
    command: dict[str, dict[str, Case]] = {}
    for workers, name in ((0, "one worker in the server's process"), (2, "two workers beside it")):
        command[f"command: {name}"] = {"ours": lambda workers=workers: command_bench.ours(workers)}
        if options.peer_command:
            command[f"command: {name}"]["peer"] = lambda: command_bench.peer(options.peer_command)
    return {**(relay if "relay" in options.only else {}), **(command if "command" in options.only else {})}


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for row, programs in cases(options).items():
        taken: dict[str, list[Figures]] = {program: [] for program in programs}
        for number in range(options.rounds):
            for program, case in programs.items():
                figures = await case()
                taken[program].append(figures)
                print(f"{row} · {program} · round {number + 1}: {_told(figures)}", flush=True)
        medians = {program: _median(figures) for program, figures in taken.items()}
        rows.append({"what": row, "medians": medians, "rounds": taken})
    return rows


def _median(rounds: list[Figures]) -> Figures:
    return {name: round(statistics.median(figures[name] for figures in rounds), 2) for name in rounds[0]}


def _told(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.10g}" for name, value in figures.items())


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table; a ratio is ours to the peer's."""
    lines = ["| what | figure | ours | peer | ratio |", "| --- | --- | ---: | ---: | ---: |"]
    for row in rows:
        ours, peer = row["medians"]["ours"], row["medians"].get("peer", {})
        for name, value in ours.items():
            other = peer.get(name)
            ratio = f"{value / other:.2f}" if other else ""
            lines.append(f"| {row['what']} | {name} | {value:g} | {'' if other is None else f'{other:g}'} | {ratio} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=["relay", "command"], default=["relay", "command"])
    parser.add_argument("--peer-relay", type=Path, help="a relay to compare with")
    parser.add_argument("--peer-command", type=Path, help="a queue of commands to compare with")
    parser.add_argument("--json", type=Path, help="write every round there")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    options = parser.parse_args()
    about = machine()
    rows = uvloop.run(run(options))
    about["load_after"] = [round(value, 1) for value in os.getloadavg()]
    print("\n" + markdown(rows) + f"\n{about}")
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(rows))


if __name__ == "__main__":
    main()
