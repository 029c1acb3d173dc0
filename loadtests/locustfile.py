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
from pathlib import Path
from typing import Any

import gevent
from gevent.lock import Semaphore
from gevent.subprocess import Popen
from locust import LoadTestShape, User, events, task
from locust.env import Environment
from locust.stats import StatsEntry

AGENTS, OPERATORS = int(os.environ["LOAD_AGENTS"]), int(os.environ["LOAD_OPERATORS"])
STORM = os.environ.get("LOAD_STORM_AFTER")
RAMP = json.loads(os.environ.get("LOAD_RAMP") or "null")
LIMITS: dict[str, float] = json.loads(os.environ["LOAD_LIMITS"])
TERMINAL = "agent → viewer"
WINDOW_SECONDS = 5.0


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
        self._recent: deque[tuple[float, dict[int, int]]] = deque()

    def tell(self, *order: str) -> None:
        """Have something done, and wait until it is."""
        with self._turn:
            self._done.clear()
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            self._done.wait()

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._reader.join(timeout=5)

    def recent(self) -> tuple[int, float]:
        """Of the last seconds: deliveries a second to terminals, and the milliseconds within which 99 % were made."""
        since = time.monotonic() - WINDOW_SECONDS
        while self._recent and self._recent[0][0] < since:
            self._recent.popleft()
        times: Counter[int] = Counter()
        for _, more in self._recent:
            times.update(more)
        left = sum(times.values()) * 0.01
        for ms in sorted(times, reverse=True):
            left -= times[ms]
            if left <= 0:
                return int(times.total() / WINDOW_SECONDS), ms
        return 0, 0.0

    def _read(self) -> None:
        for line in self._process.stdout:
            message = json.loads(line)
            if "done" in message:
                self._done.set()
                continue
            for row in message["rows"]:
                self._count(row)
            for kind, name, why in message["errors"]:
                self._environment.events.request.fire(
                    request_type=kind,
                    name=name,
                    response_time=0.0,
                    response_length=0,
                    exception=RuntimeError(why),
                    context={},
                )
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
            self._recent.append((time.monotonic(), row["response_times"]))


driver: Driver
held: tuple[int, int] = (0, 0)
"""The most agents for whose viewers the limit held, and the deliveries a second that those were."""
held_at_rate: tuple[int, int] = (0, 0)
"""The same, while the agents could send at the recorded rate: this machine bears the load too."""
KEPT = 0.9
"""Of the recorded rate; with less the load is behind."""


@events.test_start.add_listener
def begin(environment: Environment, **_: Any) -> None:
    global driver
    driver = Driver(environment)
    if STORM:
        gevent.spawn_later(float(STORM), lambda: driver.tell("storm"))


@events.test_stop.add_listener
def end(**_: Any) -> None:
    driver.tell("settle")
    driver.end()


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """The exit code: whether the thresholds were kept (`LOAD_LIMITS`: row → milliseconds at p99)."""
    stats, missed = environment.stats, []
    if stats.total.num_failures:
        missed.append(f"{stats.total.num_failures} failures")
    if RAMP:
        for when, (agents, rate) in (("at the recorded rate", held_at_rate), ("at any", held)):
            print(f"the limit {when}: {agents} agents × {RAMP['viewers']} viewers, {rate} deliveries/s")
        if held[0] < RAMP["least"]:
            missed.append(f"fewer than {RAMP['least']} agents")
    for name, limit in ({} if RAMP else LIMITS).items():
        rows = [entry for entry in stats.entries.values() if entry.name == name]
        if not rows:
            missed.append(f"nothing was measured of {name}")
        for entry in rows:
            p99 = entry.get_response_time_percentile(0.99) or 0
            print(f"{name}: p50 {entry.get_response_time_percentile(0.5)} ms, p99 {p99} ms of {limit} ms")
            if p99 > limit:
                missed.append(f"{name}: p99 {p99} ms")
    print("missed: " + "; ".join(missed) if missed else "every threshold was kept")
    environment.process_exit_code = 1 if missed else 0


class _Fleet(User):
    abstract = True
    who: str

    def on_start(self) -> None:
        driver.tell("add", self.who)
        driver.added += 1

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
            if self._users and driver.added < self._users:
                self._since = now  # they are still coming
            elif now - self._since >= RAMP["seconds"]:
                self._since = now
                if self._users == 0 or self._within(*driver.recent()):
                    self._users += RAMP["step"]
                elif self._bad == 2 or (held is not None and held[0] >= RAMP["most"]):
                    return None
            return self._users, RAMP["rate"]

        def _within(self, rate: int, p99: float) -> bool:
            """Whether there may be more of them: what does not hold is looked at twice."""
            global held, held_at_rate
            holds = p99 <= LIMITS[TERMINAL]
            share = rate / (self._users * RAMP["viewers"] * RAMP["chunks"])
            said = (
                f"{self._users} agents × {RAMP['viewers']} viewers, {rate} deliveries/s ({share:.0%}): p99 {p99:g} ms"
            )
            print(said + ("" if holds else f", past {LIMITS[TERMINAL]:g} ms"), flush=True)
            self._bad = 0 if holds else self._bad + 1
            if holds:
                held = (self._users, rate)
                held_at_rate = held if share >= KEPT else held_at_rate
            return holds and self._users < RAMP["most"]

else:

    class AgentUser(_Fleet):
        """An agent that connects, streams, rotates its tokens, and takes commands."""

        who = "agent"
        fixed_count = AGENTS

    class OperatorUser(_Fleet):
        """An operator who follows the dashboard, watches two terminals, types, sends commands and cancels some."""

        who = "operator"
        fixed_count = OPERATORS
