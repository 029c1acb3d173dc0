"""How many failed sign-ins one address or one account may have before it must wait. Pure; times in seconds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address


@dataclass(frozen=True, slots=True)
class Refusal:
    """Try again in `wait`. `is_first` since something was last allowed: that one is worth a line in a log, the flood
    behind it is not."""

    wait: float
    is_first: bool


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float
    refused: bool = False


class Attempts:
    """A leaking bucket for each key: `burst` failures at once, one more every `refill` seconds.

    An attempt counts from its beginning, so that many at the same time are no way around the limit; one that succeeds
    is given back. Memory is bounded: the key that was not seen for longest is forgotten.
    """

    def __init__(self, burst: int = 10, refill: float = 30.0, keys: int = 10_000) -> None:
        self._burst, self._refill, self._keys = burst, refill, keys
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, keys: Sequence[str], now: float) -> Refusal | None:
        """Begin an attempt that counts against each of the keys, or against none if one of them has to wait."""
        buckets = [self._bucket(key, now) for key in keys]
        over = max(bucket.level for bucket in buckets) - (self._burst - 1)
        if over > 0:
            full = [bucket for bucket in buckets if bucket.level > self._burst - 1]
            refusal = Refusal(over * self._refill, not all(bucket.refused for bucket in full))
            for bucket in full:
                bucket.refused = True
            return refusal
        for bucket in buckets:
            bucket.level += 1
            bucket.refused = False
        return None

    def wait(self, key: str, now: float) -> float:
        """How long until an attempt would be let through; 0 when one would be now."""
        return max(0.0, (self._bucket(key, now).level - (self._burst - 1)) * self._refill)

    def give_back(self, keys: Sequence[str]) -> None:
        """The attempt succeeded."""
        for key in keys:
            bucket = self._buckets.get(key)
            if bucket is not None:
                bucket.level = max(0.0, bucket.level - 1)

    def _bucket(self, key: str, now: float) -> _Bucket:
        bucket = self._buckets.setdefault(key, _Bucket(0.0, now))
        bucket.level = max(0.0, bucket.level - (now - bucket.at) / self._refill)
        bucket.at = now
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)
        return bucket


def network_of(address: str) -> str:
    """What counts as one caller: an IPv4 address, or the /64 that one IPv6 subscriber has to choose addresses from."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(IPv6Address(int(ip) >> 64 << 64)) + "/64"
