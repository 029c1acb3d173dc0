"""Rate limits per agent, address and operator. Each process counts for itself, in memory; wrong codes of the device
flow are shared (`shared_failures.py`).

Requests with valid credentials are limited so generously that a whole fleet may share one address. Requests with
unknown tokens are soon answered 429, before the database is asked.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from onsembl.api.auth.shared_failures import SharedFailures
from onsembl.api.http.problems import Problem
from onsembl.protocol.ids import AgentId
from onsembl.protocol.rates import LeakyBuckets, network_of
from onsembl.sql.database import Connection


@dataclass(frozen=True, slots=True)
class Allowance:
    """`burst` attempts at once, then one more every `refill` seconds."""

    burst: int
    refill: float

    def bucket(self) -> LeakyBuckets:
        """A counter for this allowance; it counts any number of callers apart."""
        return LeakyBuckets(self.burst, self.refill)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """The rate limits of one API process. An address is an IPv4 address or an IPv6 /64.

    `unauthenticated_realtime_sockets` limits the sockets of one address on the built-in Realtime that have not yet
    presented an operator's token. `messages_per_second` limits the control messages of one socket, on average over ten
    seconds; terminal bytes are limited by acknowledgement instead.
    """

    agent_connects: Allowance = Allowance(30, 1.0)
    agent_refreshes: Allowance = Allowance(20, 1.0)
    address_connects: Allowance = Allowance(4000, 0.01)
    address_token_requests: Allowance = Allowance(2000, 0.02)
    address_failures: Allowance = Allowance(60, 1.0)
    address_device_requests: Allowance = Allowance(20, 10.0)
    user_codes: Allowance = Allowance(10, 10.0)
    address_invalid_tokens: Allowance = Allowance(60, 1.0)
    unauthenticated_realtime_sockets: int = 50
    address_introspections: Allowance = Allowance(60, 1.0)
    messages_per_second: float = 200.0


@dataclass(slots=True)
class RateLimiter:
    """Counts the requests and sockets of this process, and raises Problem 429 for those beyond the limits."""

    limits: RateLimits
    failures: SharedFailures
    """Wrong user codes are counted by all instances together."""
    _agent_connects: LeakyBuckets = field(init=False)
    _agent_refreshes: LeakyBuckets = field(init=False)
    _address_connects: LeakyBuckets = field(init=False)
    _address_token_requests: LeakyBuckets = field(init=False)
    _address_failures: LeakyBuckets = field(init=False)
    _address_device_requests: LeakyBuckets = field(init=False)
    _user_codes: LeakyBuckets = field(init=False)
    _address_invalid_tokens: LeakyBuckets = field(init=False)
    _address_introspections: LeakyBuckets = field(init=False)

    def __post_init__(self) -> None:
        self._agent_connects = self.limits.agent_connects.bucket()
        self._agent_refreshes = self.limits.agent_refreshes.bucket()
        self._address_connects = self.limits.address_connects.bucket()
        self._address_token_requests = self.limits.address_token_requests.bucket()
        self._address_failures = self.limits.address_failures.bucket()
        self._address_device_requests = self.limits.address_device_requests.bucket()
        self._user_codes = self.limits.user_codes.bucket()
        self.failures.count_in("user_code", self._user_codes)
        self._address_invalid_tokens = self.limits.address_invalid_tokens.bucket()
        self._address_introspections = self.limits.address_introspections.bucket()

    def count_connection(self, address: str, agent_id: AgentId | None = None) -> None:
        """Count a WebSocket from `address`, of an agent if one is named. Raises Problem 429."""
        _take(self._address_connects, network_of(address))
        if agent_id is not None:
            _take(self._agent_connects, str(agent_id))

    def count_token_request(self, address: str) -> None:
        """Count a request that presents a one-time or refresh token. Raises Problem 429, also when too many tokens from
        this address were unknown."""
        wait = self._address_failures.wait(network_of(address), time.monotonic())
        if wait > 0:
            raise _too_many(wait)
        self.count_rotation(address)

    def count_rotation(self, address: str) -> None:
        """Count a refresh over an agent's connection. Raises Problem 429. The agent is authenticated already, so
        failures from its address do not count against it."""
        _take(self._address_token_requests, network_of(address))

    def count_device_request(self, address: str) -> None:
        """Count a request to enrol an agent by device code. Raises Problem 429."""
        _take(self._address_device_requests, network_of(address))

    def count_user_code(self, operator: str, address: str) -> None:
        """Count a user code that an operator entered. Raises Problem 429: user codes are short enough to guess."""
        _take(self._user_codes, operator, network_of(address))

    def refund_user_code(self, operator: str, address: str) -> None:
        """Do not count the user code after all, since it was right."""
        self._user_codes.refund([operator, network_of(address)])

    async def share_wrong_user_code(self, conn: Connection, operator: str, address: str) -> None:
        """Have the other instances count a user code that was wrong, when the transaction commits."""
        await self.failures.tell(conn, "user_code", [operator, network_of(address)])

    def count_refresh(self, agent_id: AgentId) -> None:
        """Count a refresh of an agent's tokens. Raises Problem 429."""
        _take(self._agent_refreshes, str(agent_id))

    def record_failure(self, address: str) -> None:
        """Count an unknown one-time or refresh token. Raises Problem 429 when there were too many."""
        _take(self._address_failures, network_of(address))

    def record_invalid_token(self, address: str) -> None:
        """Count a signed token that is not valid. Raises Problem 429 when there were too many. Valid tokens from the
        same address are still accepted, since signatures are verified in memory."""
        _take(self._address_invalid_tokens, network_of(address))

    def count_introspection(self, address: str) -> None:
        """Count a question to the sign-in service about a token. Raises Problem 429 when too many tokens were not
        valid."""
        _take(self._address_introspections, network_of(address))

    def refund_introspection(self, address: str) -> None:
        """Do not count the question after all, since the token was valid."""
        self._address_introspections.refund([network_of(address)])


def _take(bucket: LeakyBuckets, *keys: str) -> None:
    rejection = bucket.take(keys, time.monotonic())
    if rejection is not None:
        raise _too_many(rejection.wait)


def _too_many(wait: float) -> Problem:
    seconds = math.ceil(wait)
    return Problem(429, f"Too many attempts: try again in {seconds} s.", headers={"Retry-After": str(seconds)})
