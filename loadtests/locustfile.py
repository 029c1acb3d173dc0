"""Locust's side of the load: shapes, its tables and its report; the load itself is made by fleet.py.

A user of Locust's stands for an agent, an operator or a station of the fleet. See load.py, which starts all of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
from gevent.lock import Semaphore
from gevent.subprocess import Popen
from locust import LoadTestShape, User, events, task
from locust.env import Environment
from locust.stats import StatsEntry

AGENTS, OPERATORS = int(os.environ["LOAD_AGENTS"]), int(os.environ["LOAD_OPERATORS"])
SECONDS = float(os.environ["LOAD_SECONDS"])
STORM_AFTER = os.environ["LOAD_STORM_AFTER"]
RAMP = json.loads(os.environ.get("LOAD_RAMP") or "null")
LIMITS: dict[str, float] = json.loads(os.environ["LOAD_LIMITS"])
OPTIONAL: list[str] = json.loads(os.environ["LOAD_OPTIONAL"])
"""Rows that a short run need not have."""
RESULT = Path(os.environ["LOAD_RESULT"])
TERMINAL = "agent → viewer"
SENT = "chunks sent"
WINDOW_SECONDS = min(5.0, RAMP["seconds"]) if RAMP else 5.0
"""What is judged is no older than the step that it is judged for."""


@dataclass(frozen=True, slots=True)
class Recent:
    """A second, of the last few: chunks that agents sent, and deliveries to viewers; the milliseconds within which 99 %
    of those were made, None when there was none."""

    sent: float
    deliveries: float
    p99: float | None


class Driver:
    """The fleet's process, and what it reports."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        command = [sys.executable, str(Path(__file__).parent / "fleet.py")]
        self._process = Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._turn = Semaphore()
        self._done = gevent.event.Event()
        self._reader = gevent.spawn(self._read)
        self.added = 0
        """Users who are there."""
        self.over = False
        """Whether the fleet has ended; before `end` it must not."""
        self.counts: Counter[str] = Counter()
        self._recent: deque[tuple[float, int, dict[int, int]]] = deque()

    def tell(self, *order: str) -> bool:
        """Have something done, and wait until it is; False when the fleet has ended meanwhile."""
        with self._turn:
            if self.over:
                return False
            self._done.clear()
            try:
                self._process.stdin.write(json.dumps(order).encode() + b"\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                return False
            self._done.wait()
            return not self.over

    def end(self) -> bool:
        """See everything to its end, then end the fleet; whether it did all that."""
        settled = self.tell("settle")
        self._process.stdin.close()
        code = self._process.wait()
        self._reader.join(timeout=5)
        return settled and code == 0

    def recent(self) -> Recent:
        """The last seconds."""
        since = time.monotonic() - WINDOW_SECONDS
        while self._recent and self._recent[0][0] < since:
            self._recent.popleft()
        times: Counter[int] = Counter()
        for _, _, more in self._recent:
            times.update(more)
        sent = sum(count for _, count, _ in self._recent)
        left, p99 = times.total() * 0.01, None
        for ms in sorted(times, reverse=True):
            left -= times[ms]
            if left <= 0:
                p99 = ms
                break
        return Recent(sent / WINDOW_SECONDS, times.total() / WINDOW_SECONDS, p99)

    def _read(self) -> None:
        for line in self._process.stdout:
            message = json.loads(line)
            if "done" in message:
                self._done.set()
                continue
            for row in message["rows"]:
                self._count(row)
            self.counts.update(message["counts"])
            self._recent.append((time.monotonic(), message["counts"].get(SENT, 0), {}))
            for kind, name, why in message["errors"]:
                self._environment.events.request.fire(
                    request_type=kind,
                    name=name,
                    response_time=0.0,
                    response_length=0,
                    exception=RuntimeError(why),
                    context={},
                )
        self.over = True
        self._done.set()

    def _count(self, row: dict[str, Any]) -> None:
        """As Locust's master takes what a worker has counted."""
        for name in ("response_times", "num_reqs_per_sec"):
            row[name] = {int(key): count for key, count in row[name].items()}
        stats = self._environment.stats
        entry = StatsEntry.unserialize(row, stats)  # type: ignore[arg-type]
        stats.entries[row["name"], row["method"]].extend(entry)
        stats.total.extend(entry)
        if row["name"] == TERMINAL:
            self._recent.append((time.monotonic(), 0, row["response_times"]))


driver: Driver
ended_well = False
held: tuple[int, float] = (0, 0)
"""The most agents for whose viewers the limit held, and the deliveries a second that those were."""
held_at_rate: tuple[int, float] = (0, 0)
"""The same, while the agents could send at the recorded rate: this machine bears the load too."""
KEPT = 0.9
"""Of the recorded rate, with less the load is behind; of what was sent, with fewer deliveries the server is."""


@events.test_start.add_listener
def begin(environment: Environment, **_: Any) -> None:
    global driver
    driver = Driver(environment)
    if not RAMP:
        gevent.spawn(run, environment)


def run(environment: Environment) -> None:
    """From when everybody is there, for as long as it was asked for."""
    while driver.added < AGENTS + OPERATORS and not driver.over:
        gevent.sleep(0.1)
    if STORM_AFTER:
        gevent.spawn_later(float(STORM_AFTER), driver.tell, "storm")
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and not driver.over:
        gevent.sleep(0.1)
    environment.runner.quit()


@events.test_stop.add_listener
def end(**_: Any) -> None:
    global ended_well
    ended_well = driver.end()


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """The exit code: whether the thresholds were kept (`LOAD_LIMITS`: row → milliseconds at p99). What was measured is
    written to `LOAD_RESULT`."""
    stats, missed = environment.stats, []
    if not ended_well:
        missed.append("the load ended before it had seen everything to its end")
    if environment.runner is not None and environment.runner.exceptions:
        missed.append("the load's own users failed")
    if stats.total.num_failures:
        missed.append(f"{stats.total.num_failures} failures")
    if RAMP:
        for when, (agents, rate) in (("at the recorded rate", held_at_rate), ("at any", held)):
            print(f"the limit {when}: {agents} agents × {RAMP['viewers']} viewers, {rate:.0f} deliveries/s")
        if held[0] < RAMP["least"]:
            missed.append(f"fewer than {RAMP['least']} agents")
    for name, limit in ({} if RAMP else LIMITS).items():
        rows = [entry for entry in stats.entries.values() if entry.name == name and entry.num_requests]
        if not rows and name not in OPTIONAL:
            missed.append(f"nothing was measured of {name}")
        for entry in rows:
            p99 = entry.get_response_time_percentile(0.99) or 0
            print(f"{name}: p50 {entry.get_response_time_percentile(0.5)} ms, p99 {p99} ms of {limit} ms")
            if p99 > limit:
                missed.append(f"{name}: p99 {p99} ms")
    for what, count in driver.counts.items():
        print(f"{what}: {count}")
    print("missed: " + "; ".join(missed) if missed else "every threshold was kept")
    environment.process_exit_code = 1 if missed else 0
    RESULT.write_text(json.dumps({"rows": _rows(environment), "counts": driver.counts, "missed": missed, **_limit()}))


def _rows(environment: Environment) -> list[dict[str, Any]]:
    return [
        {
            "kind": entry.method,
            "name": entry.name,
            "count": entry.num_requests,
            "failures": entry.num_failures,
            "p50 ms": entry.get_response_time_percentile(0.5),
            "p99 ms": entry.get_response_time_percentile(0.99),
            "max ms": entry.max_response_time,
        }
        for entry in environment.stats.entries.values()
    ]


def _limit() -> dict[str, Any]:
    if not RAMP:
        return {}
    named = (("at the recorded rate", held_at_rate), ("at any", held))
    return {"limit": {when: {"agents": agents, "deliveries/s": round(rate)} for when, (agents, rate) in named}}


class _Fleet(User):
    abstract = True
    who: str

    def on_start(self) -> None:
        there = driver.tell("add", self.who)  # others come meanwhile
        driver.added += there

    @task
    def stay(self) -> None:
        """The fleet does the rest."""
        gevent.sleep(1)


if RAMP:

    class StationUser(_Fleet):
        """An agent, and five who watch it."""

        who = "station"

    class Ramp(LoadTestShape):
        """More and more of them, until 99 % of what they see is not there within the limit any more."""

        def __init__(self) -> None:
            super().__init__()
            self._users = 0
            self._since = 0.0
            self._bad = 0

        def tick(self) -> tuple[int, float] | None:
            now = self.get_run_time()
            if self._users and driver.over:
                return None
            if self._users and driver.added < self._users:
                self._since = now  # they are still coming
            elif now - self._since >= RAMP["seconds"]:
                self._since = now
                if self._users == 0 or self._within(driver.recent()):
                    self._users += RAMP["step"]
                elif self._bad == 2 or held[0] >= RAMP["most"]:
                    return None
            return self._users, RAMP["rate"]

        def _within(self, recent: Recent) -> bool:
            """Whether there may be more of them: what does not hold is looked at twice."""
            global held, held_at_rate
            share = recent.sent / (self._users * RAMP["chunks"])
            behind = recent.deliveries < KEPT * recent.sent * RAMP["viewers"]
            if recent.p99 is None:
                why = "nothing was delivered"
            elif behind:
                why = "fewer deliveries than were due"
            else:
                why = "" if recent.p99 <= LIMITS[TERMINAL] else f"past {LIMITS[TERMINAL]:g} ms"
            print(
                f"{self._users} agents × {RAMP['viewers']} viewers, {recent.deliveries:.0f} deliveries/s, the agents at"
                f" {share:.0%} of the recorded rate: p99 {recent.p99} ms" + (f", {why}" if why else ""),
                flush=True,
            )
            self._bad = self._bad + 1 if why else 0
            if not why:
                held = (self._users, recent.deliveries)
                held_at_rate = held if share >= KEPT else held_at_rate
            return not why and self._users < RAMP["most"]

else:

    class AgentUser(_Fleet):
        """An agent that connects, streams, rotates its tokens, and takes commands."""

        who = "agent"
        fixed_count = AGENTS

    class OperatorUser(_Fleet):
        """An operator who follows the dashboard, watches two terminals, types, sends commands and cancels some."""

        who = "operator"
        fixed_count = OPERATORS
