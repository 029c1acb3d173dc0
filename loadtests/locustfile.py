"""Locust's side of the load: shapes, its tables and its report; the load itself is made by fleet.py.

A user of Locust's stands for an agent or an operator of the fleet. See load.py, which starts all of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gevent
from gevent.lock import Semaphore
from gevent.subprocess import Popen
from locust import User, events, task
from locust.env import Environment

STORM = os.environ.get("LOAD_STORM_AFTER")


class Driver:
    """The fleet's process, and what it reports."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        command = [sys.executable, str(Path(__file__).parent / "fleet.py")]
        self._process = Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._turn = Semaphore()
        self._done = gevent.event.Event()
        self._reader = gevent.spawn(self._read)

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

    def _read(self) -> None:
        for line in self._process.stdout:
            message = json.loads(line)
            if "done" in message:
                self._done.set()
                continue
            for row in message["rows"]:
                for ms in row["ms"]:
                    self._fire(row["kind"], row["name"], ms, None)
            for kind, name, why in message["errors"]:
                self._fire(kind, name, 0.0, RuntimeError(why))
        self._done.set()

    def _fire(self, kind: str, name: str, ms: float, error: Exception | None) -> None:
        self._environment.events.request.fire(
            request_type=kind, name=name, response_time=ms, response_length=0, exception=error, context={}
        )


driver: Driver


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
    for name, limit in json.loads(os.environ["LOAD_LIMITS"]).items():
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

    @task
    def stay(self) -> None:
        """The fleet does the rest."""
        gevent.sleep(1)


class AgentUser(_Fleet):
    """An agent that connects, streams, and takes commands."""

    who = "agent"
    fixed_count = int(os.environ["LOAD_AGENTS"])


class OperatorUser(_Fleet):
    """An operator who watches two terminals and sends a command every five seconds."""

    who = "operator"
    fixed_count = int(os.environ["LOAD_OPERATORS"])
