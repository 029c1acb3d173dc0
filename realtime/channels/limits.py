"""The limits of one client of the built-in Supabase Realtime, as a hosted project has them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onsembl.protocol.rates import FixedWindow, SlidingWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class RealtimeLimits:
    """The defaults are those of a hosted project of the Pro plan, or Realtime's own. Times in seconds, sizes in bytes.

    Rates are averages over `rate_window`. Supabase Realtime counts them for the whole project. Here each socket has its
    own count, so that a client that sends too much loses its connection and affects no other client.
    """

    concurrent_users: int = 500
    channels_per_socket: int = 100
    unauthenticated_per_address: float = math.inf
    """How many sockets of one network address may have shown no user's token. A hosted project has no such limit."""
    authentication_seconds: float = math.inf
    """A socket must show a user's token within this time. A hosted project has no such limit."""
    joins_per_second: float = 100
    events_per_second: float = 500
    presence_events_per_second: float = 1000
    presence_calls: int = 5
    presence_calls_window: float = 30.0
    rate_window: float = 10.0
    payload_bytes: int = 3_000_500
    """3000 kB and some room, as in Supabase Realtime."""
    record_bytes: int = 1024 * 1024
    """A larger row is pushed without its large values."""
    queue_bytes: int = 16 * 1024 * 1024
    """A client with more unsent bytes than this loses what waits: its channels fail, and it joins them again."""
    filter_seconds: float = 1.0
    """How long the database may compare one batch of changes with a client's filters."""
    filter_burst: float = 5.0
    """How long the database may work at a user's filters at once; then the user's subscriptions with filters end."""
    filter_share: float = 0.1
    """The part of the time that the database may work at a user's filters in the long run."""
    regular_expressions: bool = True
    """Whether all clients may filter by `match` and `imatch`, or only those with the secret key."""
    anonymous_broadcast: bool = True
    """Whether a client without a user's token, with the public key alone, may join public channels and broadcast."""
    pending_messages: int = 500
    """A channel with more messages than this that wait for a query's result is closed."""
    idle: float = 60.0
    """A socket that received nothing for this long is closed."""
    no_channel: float = 600.0
    """A socket that had no channel for this long is closed."""
    connect_error_backoff: float = 2.0
    """Pause before a rejected handshake is answered."""
    join_error_backoff: float = 5.0
    """Pause before a rejected join is answered."""
    replication_ready: float = 60.0
    """A channel that asked for `replication_ready` is closed when replication is not established within this time."""
    subscribe_wait: float = 15.0
    """How long a join with `wait` waits for its subscription when it names no timeout."""
    subscribe_wait_max: float = 20.0
    """The longest timeout that such a join may name."""
    private_only: bool = False


class ChannelRates:
    """The rate limits of one channel; `events` is the count of its socket."""

    def __init__(self, limits: RealtimeLimits, events: SlidingWindow) -> None:
        self.events = events
        self.presence_events = SlidingWindow(limits.presence_events_per_second, limits.rate_window)
        self.presence_calls = FixedWindow(limits.presence_calls, limits.presence_calls_window)
