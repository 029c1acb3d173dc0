"""What one client of the stand-in may do, as a hosted project limits it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onsembl.protocol.rates import FixedWindow, SlidingWindow


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


class ChannelRates:
    """What is counted for one channel; `events` is its socket's count."""

    def __init__(self, limits: Limits, events: SlidingWindow) -> None:
        self.events = events
        self.presence_events = SlidingWindow(limits.presence_events_per_second, limits.rate_window)
        self.presence_calls = FixedWindow(limits.presence_calls, limits.presence_calls_window)
