"""What one client of the stand-in may do, as a hosted project limits it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The defaults are those of a hosted project of the Pro plan, or Realtime's own. Times in seconds, sizes in bytes.

    Rates are averages over `rate_window`. Unlike the real service, which counts them for the whole project, they are
    counted for each socket: a client that sends too much is cut off and costs no other.

    `unknown_at_address` sockets of one address may have shown no user's token yet, and each must within
    `unknown_seconds`; a hosted project knows neither bound.
    """

    concurrent_users: int = 500
    channels_per_socket: int = 100
    unknown_at_address: float = math.inf
    unknown_seconds: float = math.inf
    joins_per_second: float = 100
    events_per_second: float = 500
    presence_events_per_second: float = 1000
    presence_calls: int = 5
    presence_calls_window: float = 30.0
    rate_window: float = 10.0
    payload_bytes: int = 3_000_500  # 3000 kB and some room, as the real service allows
    record_bytes: int = 1024 * 1024  # a row larger than this is delivered without its large values
    queue_bytes: int = 16 * 1024 * 1024  # what may wait for one client before it is cut off
    waiting_messages: int = 500  # what may wait for a channel whose permissions are being asked for
    idle: float = 60.0
    no_channel: float = 600.0
    connect_error_backoff: float = 2.0
    join_error_backoff: float = 5.0
    replication_ready: float = 60.0
    subscribe_wait: float = 15.0
    subscribe_wait_max: float = 20.0
    private_only: bool = False


class Rate:
    """Counts events; too many when their average a second, over the window, is above the limit."""

    def __init__(self, limit: float, window: float) -> None:
        self._allowed = limit * window
        self._window = window
        self._buckets: deque[tuple[float, int]] = deque()
        self._total = 0

    def add(self, now: float, events: int = 1) -> bool:
        """Count; False when it is too much. `now` in seconds, of a clock that never goes back."""
        while self._buckets and self._buckets[0][0] <= now - self._window:
            self._total -= self._buckets.popleft()[1]
        self._total += events
        if self._buckets and now - self._buckets[-1][0] < self._window / 10:
            began, count = self._buckets[-1]
            self._buckets[-1] = (began, count + events)
        else:
            self._buckets.append((now, events))
        return self._total <= self._allowed


class CallsInWindow:
    """At most so many calls from the first on, until the window is over."""

    def __init__(self, calls: int, window: float) -> None:
        self._calls, self._window = calls, window
        self._count = 0
        self._until: float | None = None

    def add(self, now: float) -> bool:
        """Count a call; False when there were enough."""
        if self._until is None or now > self._until:
            self._until, self._count = now + self._window, 0
        self._count += 1
        return self._count <= self._calls


class ChannelRates:
    """What is counted for one channel; `events` is its socket's count."""

    def __init__(self, limits: Limits, events: Rate) -> None:
        self.events = events
        self.presence_events = Rate(limits.presence_events_per_second, limits.rate_window)
        self.presence_calls = CallsInWindow(limits.presence_calls, limits.presence_calls_window)
