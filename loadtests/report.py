"""The measurements of the load, counted like Locust's and sent to Locust as lines of JSON on standard output."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, defaultdict
from typing import Any


def bucket(ms: float) -> int:
    """Round a time to two digits, as Locust does in its tables."""
    digits = 0 if ms < 100 else -1 if ms < 1000 else -2 if ms < 10_000 else -3
    return int(round(ms, digits))


class Row:
    """One row of Locust's table since the last report. Times are in milliseconds."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.least = float("inf")
        self.most = 0.0
        self.times: defaultdict[int, int] = defaultdict(int)

    def add(self, ms: float) -> None:
        self.count += 1
        self.total += ms
        self.least = min(self.least, ms)
        self.most = max(self.most, ms)
        self.times[bucket(ms)] += 1


class Report:
    """Rows and failures by name, and counts."""

    def __init__(self) -> None:
        self._rows: defaultdict[tuple[str, str], Row] = defaultdict(Row)
        self._errors: list[tuple[str, str, str]] = []
        self._counts: Counter[str] = Counter()

    def took(self, kind: str, name: str, seconds: float) -> None:
        self._rows[kind, name].add(seconds * 1000)

    def failed(self, kind: str, name: str, why: object) -> None:
        self._errors.append((kind, name, f"{type(why).__name__}: {why}" if isinstance(why, Exception) else str(why)))

    def count(self, what: str, number: int = 1) -> None:
        self._counts[what] += number

    def hand_over(self) -> None:
        rows, self._rows = self._rows, defaultdict(Row)
        errors, self._errors = self._errors, []
        counts, self._counts = self._counts, Counter()
        if rows or errors or counts:
            say({"rows": [_told(*names, row) for names, row in rows.items()], "errors": errors, "counts": counts})


def _told(kind: str, name: str, row: Row) -> dict[str, Any]:
    """The row in the format of Locust's own workers."""
    now = time.time()
    return {
        "method": kind,
        "name": name,
        "start_time": now,
        "last_request_timestamp": now,
        "num_requests": row.count,
        "total_response_time": row.total,
        "min_response_time": row.least,
        "max_response_time": row.most,
        "response_times": row.times,
        "num_reqs_per_sec": {int(now): row.count},
    }


def say(message: dict[str, Any]) -> None:
    """Print a line for the process that started this one."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
