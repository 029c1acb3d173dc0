"""The benchmark table: Onsembl beside other software for the same task, with targets.

    python loadtests/bench.py [--rounds 3] [--only relay command …] [--peer-relay PATH] [--peer-command PATH]
                              [--quick] [--json FILE] [--markdown FILE]

Measures Onsembl and each peer in turn, in one run on this machine; prints medians of the rounds, and ratios. The peers
are Node programs (`node PATH PORT`): a relay that passes bytes from `/agent/ID` to `/view/ID`, and a queue (`node PATH
PORT REDIS_PORT`, with a Redis that writes each change to disk) that takes POST `/commands` and sends it to `/agent/ID`.

A failed round is printed and written, and the other rounds continue. Exits with 1 when a round failed or a target was
missed. A target relative to a peer is undecided without the peer. `--quick` checks that everything runs; its results
are not meaningful.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import attention_bench
import cancel_bench
import command_bench
import others_bench
import queue_bench
import realtime_bench
import relay_bench
import report_bench
import start_bench
import steps_bench
import turn_bench
import typing_bench
import uvloop
from targets import Measures, Target, at_least_the_peers, at_most, at_most_the_peers, at_most_times

Case = Callable[[], Awaitable[Measures]]
GROUPS = ("relay", "command", "row", "others", "keys", "queue", "cancel", "turn", "report", "start", "worker")
RELAY_TARGETS = {
    relay_bench.PACED: [at_most_the_peers("p50 ms"), at_most_the_peers("p99 ms")],
    relay_bench.FASTER: [at_most("p99 ms", 10)],
    relay_bench.SATURATED: [at_least_the_peers("deliveries/s", 3)],
    relay_bench.MANY: [at_most("p99 ms", 20)],
    relay_bench.MANY_FASTER: [at_most("p99 ms", 20)],
}
FLAT_MIB = 16.0
"""How much a server's memory may differ between two measurements."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A row of the table: its measurements by program (`ours`, `peer`), and its targets."""

    what: str
    programs: dict[str, Case]
    targets: list[Target] = field(default_factory=list)


@dataclass(slots=True)
class Results:
    """The results of a row: the values of each round, and the failures."""

    what: str
    targets: list[Target]
    rounds: dict[str, list[Measures]]
    failures: list[str] = field(default_factory=list)

    def median(self, program: str) -> Measures:
        """The median of each value over the rounds; empty without a round."""
        rounds = self.rounds.get(program, [])
        names = rounds[0] if rounds else {}
        return {name: round(statistics.median(measures[name] for measures in rounds), 3) for name in names}

    def verdicts(self) -> list[tuple[Target, bool | None]]:
        """Whether each target is met; None when the peer is missing."""
        ours, peer = self.median("ours"), self.median("peer")
        return [(target, target.met(ours, peer) if target.figure in ours else False) for target in self.targets]

    def as_json(self) -> dict[str, Any]:
        """The results in a form for JSON."""
        return {
            "what": self.what,
            "medians": {program: self.median(program) for program in self.rounds},
            "targets": [
                {"figure": target.figure, "target": target.text, "met": met} for target, met in self.verdicts()
            ],
            "rounds": self.rounds,
            "failures": self.failures,
        }


def machine() -> dict[str, Any]:
    """A description of this machine."""
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


def benchmarks(options: argparse.Namespace) -> list[Benchmark]:
    """The rows of the table, in order."""
    quick: bool = options.quick
    rows: dict[str, list[Benchmark]] = {group: [] for group in GROUPS}
    for name, load in relay_bench.LOADS.items():
        load = replace(load, agents=min(load.agents, 50), seconds=1.0) if quick else load
        programs: dict[str, Case] = {"ours": lambda load=load: relay_bench.ours(load)}
        if options.peer_relay:
            programs["peer"] = lambda load=load: relay_bench.peer(options.peer_relay, load)
        rows["relay"].append(Benchmark(f"relay: {name}", programs, [*RELAY_TARGETS[name], at_most("lost", 0)]))
    for workers, name in ((0, "one worker in the server's process"), (2, "two workers beside it")):
        programs = {"ours": lambda workers=workers: command_bench.ours(workers)}
        if options.peer_command:
            programs["peer"] = lambda: command_bench.peer(options.peer_command)
        targets = [at_most_the_peers("p50 ms"), at_most_the_peers("p99 ms")]
        targets += [at_least_the_peers("commands/s")] if workers else []
        rows["command"].append(Benchmark(f"command: {name}", programs, targets))
    for count in (1, 50):
        programs = {"ours": lambda count=count: _changes(count, 20 if quick else 200)}
        subscribers = "one subscriber" if count == 1 else f"{count} subscribers"
        rows["row"].append(Benchmark(f"a row's change → {subscribers}", programs, [at_most("p99 ms", 50)]))
    seconds = 1.0 if quick else 10.0
    kept = [at_most_times("p99 ms", "p99 ms before", 2), at_most("lost", 0), at_most("growth MiB", FLAT_MIB)]
    rows["others"] = [
        Benchmark("one of fifty viewers stuck: the others", {"ours": lambda: others_bench.stuck(seconds)}, kept),
        Benchmark("another agent floods: the others", {"ours": lambda: others_bench.flooding(seconds)}, kept),
    ]
    keys = 20 if quick else 200
    rows["keys"] = [
        Benchmark("key → program → echo", {"ours": lambda: typing_bench.keys(keys, "peace")}),
        Benchmark(
            "key → program → echo, which floods",
            {"ours": lambda: typing_bench.keys(keys, "flood")},
            [at_most("p99 ms", 50)],
        ),
    ]
    queued, samples = (100, 50) if quick else (10_000, 400)
    rows["queue"] = [
        Benchmark(
            f"{queued:,} commands queued: POST → an idle agent",
            {"ours": lambda: queue_bench.ratios(queued, samples)},
            [at_most("p50 ms, ×", 1.2), at_most("p99 ms, ×", 1.2)],
        )
    ]
    cancels = 10 if quick else 100
    rows["cancel"] = [
        Benchmark("cancel → processes gone", {"ours": lambda: cancel_bench.cancels(cancels)}, [at_most("p99 ms", 150)])
    ]
    counted = 5 if quick else 50
    rows["turn"] = [
        Benchmark(
            "a coding CLI's event → viewer",
            {"ours": lambda: turn_bench.turns(counted)},
            [at_most("first event p99 ms", 20), at_most("later events p99 ms", 20)],
        ),
        Benchmark(
            "a coding CLI asks → row at a subscriber; answer → the CLI goes on",
            {"ours": lambda: attention_bench.requests(10 if quick else 200)},
            [at_most("asked → row p99 ms", 100), at_most("answer → CLI p99 ms", 100)],
        ),
        Benchmark(
            "a turn of very many steps",
            {"ours": lambda: steps_bench.long_turn(300 if quick else 10_000)},
            [at_most("server's growth MiB", FLAT_MIB)],
        ),
    ]
    rows["report"] = [
        Benchmark(
            "a click on a report of 200 findings → on the screen",
            {"ours": lambda: report_bench.opened(200, 2 if quick else 10)},
            [at_most("median ms", 300)],
        )
    ]
    rows["start"] = [Benchmark("`up` on an existing folder → ready", {"ours": start_bench.again}, [at_most("s", 3)])]
    rows["worker"] = [
        Benchmark("a worker's start → its first job", {"ours": start_bench.first_job}, [at_most("s", 1.5)])
    ]
    return [row for group in GROUPS if group in options.only for row in rows[group]]


async def _changes(subscribers: int, changes: int) -> Measures:
    return (await realtime_bench.changes_seen([subscribers], changes))[0]


async def run(row: Benchmark, rounds: int) -> Results:
    """Measure each program in turn, for this number of rounds."""
    results = Results(row.what, row.targets, {program: [] for program in row.programs})
    for number in range(1, rounds + 1):
        for program, case in row.programs.items():
            about = f"{row.what} · {program} · round {number}"
            try:
                measures = await case()
            except Exception as error:  # noqa: BLE001 — whatever it was, the other rows are worth having
                traceback.print_exc()
                results.failures.append(f"{program}, round {number}: {type(error).__name__}: {error}")
                print(f"{about}: failed", flush=True)
                continue
            results.rounds[program].append(measures)
            print(f"{about}: " + ", ".join(f"{name} {value:.10g}" for name, value in measures.items()), flush=True)
    return results


def markdown(about: dict[str, Any], rows: list[Results]) -> str:
    """The machine and the table in Markdown. A ratio is Onsembl's value to the peer's."""
    lines = [", ".join(f"{name}: {value}" for name, value in about.items()), ""]
    lines += [
        "| what | figure | ours | peer | ratio | target | met |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
    ]
    for row in rows:
        ours, peer = row.median("ours"), row.median("peer")
        verdicts = {target.figure: (target.text, met) for target, met in row.verdicts()}
        for name in {**ours, **{target.figure: 0 for target in row.targets}}:
            value, other = ours.get(name), peer.get(name)
            ratio = f"{value / other:.2f}" if value is not None and other else ""
            text, met = verdicts.get(name, ("", None))
            said = {True: "yes", False: "no", None: "no peer" if text else ""}[met]
            cells = ("" if figure is None else f"{figure:.10g}" for figure in (value, other))
            lines.append(f"| {row.what} | {name} | {' | '.join(cells)} | {ratio} | {text} | {said} |")
    lines += ["", *(f"Failed: {row.what}: {why}" for row in rows for why in row.failures)]
    return "\n".join(lines).rstrip() + "\n"


async def _all(options: argparse.Namespace) -> int:
    about, rows = machine() | {"rounds": options.rounds}, list[Results]()
    for row in benchmarks(options):
        rows.append(await run(row, options.rounds))
        about["load_after"] = [round(value, 1) for value in os.getloadavg()]
        if options.json:  # so far
            report = {"machine": about, "rows": [row.as_json() for row in rows]}
            options.json.write_text(json.dumps(report, indent=2) + "\n")
        if options.markdown:
            options.markdown.write_text(markdown(about, rows))
    print("\n" + markdown(about, rows))
    missed = any(met is False for row in rows for _, met in row.verdicts())
    return 1 if missed or any(row.failures for row in rows) else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS)
    parser.add_argument("--peer-relay", type=Path, help="the peer's relay")
    parser.add_argument("--peer-command", type=Path, help="the peer's command queue")
    parser.add_argument("--quick", action="store_true", help="run a little of each, without meaningful results")
    parser.add_argument("--json", type=Path, help="write every round to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("at least one round")
    sys.exit(uvloop.run(_all(options)))


if __name__ == "__main__":
    main()
