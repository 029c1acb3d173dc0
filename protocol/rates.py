"""Rate limits as plain state machines: a sliding window, a fixed window and leaky buckets. No I/O and no clock.

`now` is in seconds, of a clock that never goes back.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address


class SlidingWindow:
    """Limits the average number of events a second, over the last `window` seconds, to `limit`."""

    def __init__(self, limit: float, window: float) -> None:
        self._allowed = limit * window
        self._window = window
        self._buckets: deque[tuple[float, int]] = deque()
        self._total = 0

    def add(self, now: float, events: int = 1) -> bool:
        """Count `events`; return False when the average is above the limit."""
        while self._buckets and self._buckets[0][0] <= now - self._window:
            self._total -= self._buckets.popleft()[1]
        self._total += events
        if self._buckets and now - self._buckets[-1][0] < self._window / 10:
            began, count = self._buckets[-1]
            self._buckets[-1] = (began, count + events)
        else:
            self._buckets.append((now, events))
        return self._total <= self._allowed


class FixedWindow:
    """Limits calls to `calls` in a window of `window` seconds; the first call after a window's end opens the next."""

    def __init__(self, calls: int, window: float) -> None:
        self._calls, self._window = calls, window
        self._count = 0
        self._until: float | None = None

    def add(self, now: float) -> bool:
        """Count a call; return False when the window already has all the calls it allows."""
        if self._until is None or now > self._until:
            self._until, self._count = now + self._window, 0
        self._count += 1
        return self._count <= self._calls


@dataclass(frozen=True, slots=True)
class RateRejection:
    """An attempt was rejected; the next may come in `wait` seconds.

    `is_first` is true for the first rejection since an attempt was last allowed. Log that one; a flood of attempts
    causes many more.
    """

    wait: float
    is_first: bool


@dataclass(slots=True)
class _Bucket:
    level: float
    updated: float
    rejected: bool = False


class LeakyBuckets:
    """A leaky bucket for each key: `burst` attempts at once, then one more every `refill` seconds.

    An attempt counts from its beginning, so that parallel attempts do not get around the limit; where only failures
    are to count, a successful attempt is refunded. Memory is bounded: above `keys` keys, the one unused for longest is
    forgotten.
    """

    def __init__(self, burst: int = 10, refill: float = 30.0, keys: int = 10_000) -> None:
        self._burst, self._refill, self._keys = burst, refill, keys
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, keys: Sequence[str], now: float) -> RateRejection | None:
        """Count an attempt against each key; if one key is at its limit, count against none and return a rejection."""
        buckets = [self._bucket(key, now) for key in keys]
        over = max(bucket.level for bucket in buckets) - (self._burst - 1)
        if over > 0:
            full = [bucket for bucket in buckets if bucket.level > self._burst - 1]
            rejection = RateRejection(over * self._refill, not all(bucket.rejected for bucket in full))
            for bucket in full:
                bucket.rejected = True
            return rejection
        for bucket in buckets:
            bucket.level += 1
            bucket.rejected = False
        return None

    def count(self, keys: Sequence[str], now: float) -> None:
        """Count an attempt that was allowed elsewhere against each key, also above the limit."""
        for key in keys:
            self._bucket(key, now).level += 1

    def wait(self, key: str, now: float) -> float:
        """Seconds until an attempt would be allowed; 0 when it would be allowed now."""
        return max(0.0, (self._bucket(key, now).level - (self._burst - 1)) * self._refill)

    def refund(self, keys: Sequence[str]) -> None:
        """Take back one attempt from the count of each key."""
        for key in keys:
            bucket = self._buckets.get(key)
            if bucket is not None:
                bucket.level = max(0.0, bucket.level - 1)

    def _bucket(self, key: str, now: float) -> _Bucket:
        bucket = self._buckets.setdefault(key, _Bucket(0.0, now))
        bucket.level = max(0.0, bucket.level - (now - bucket.updated) / self._refill)
        bucket.updated = now
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)
        return bucket


def network_of(address: str) -> str:
    """The network that a rate limit counts as one client: an IPv4 address or an IPv6 /64.

    One IPv6 subscriber chooses its addresses from a /64. Text that is not an IP address is returned as it is.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(IPv6Address(int(ip) >> 64 << 64)) + "/64"
