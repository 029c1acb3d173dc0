"""How often one agent and one address may come: buckets in memory, each process its own.

Whoever shows a good token is let in up to bounds that a fleet behind one address stays below. Opaque tokens that are
not known are soon answered 429 before anything is looked up.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from onsembl.api.http.problems import Problem
from onsembl.protocol.ids import AgentId
from onsembl.protocol.rates import LeakyBuckets, network_of


@dataclass(frozen=True, slots=True)
class Allowance:
    """`burst` at once, then one more every `refill` seconds."""

    burst: int
    refill: float

    def bucket(self) -> LeakyBuckets:
        """What counts, for any number of callers."""
        return LeakyBuckets(self.burst, self.refill)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one API process. An address is an IPv4 address or an IPv6 /64.

    `unknown_realtime_sockets` of an address may have shown no operator's token yet; with Realtime built in.
    `messages_per_second` is of the control messages of one socket, on average over ten seconds; terminal bytes are
    bounded by acknowledgement instead.
    """

    agent_connects: Allowance = Allowance(30, 1.0)
    agent_refreshes: Allowance = Allowance(20, 1.0)
    address_connects: Allowance = Allowance(4000, 0.01)
    address_exchanges: Allowance = Allowance(2000, 0.02)
    address_guesses: Allowance = Allowance(60, 1.0)
    address_devices: Allowance = Allowance(20, 10.0)
    typed_codes: Allowance = Allowance(10, 10.0)
    address_refusals: Allowance = Allowance(60, 1.0)
    unknown_realtime_sockets: int = 50
    address_questions: Allowance = Allowance(60, 1.0)
    messages_per_second: float = 200.0


@dataclass(slots=True)
class Doors:
    """Counts who comes to this process."""

    limits: Limits
    _agent_connects: LeakyBuckets = field(init=False)
    _agent_refreshes: LeakyBuckets = field(init=False)
    _address_connects: LeakyBuckets = field(init=False)
    _address_exchanges: LeakyBuckets = field(init=False)
    _address_guesses: LeakyBuckets = field(init=False)
    _address_devices: LeakyBuckets = field(init=False)
    _typed_codes: LeakyBuckets = field(init=False)
    _address_refusals: LeakyBuckets = field(init=False)
    _address_questions: LeakyBuckets = field(init=False)

    def __post_init__(self) -> None:
        self._agent_connects = self.limits.agent_connects.bucket()
        self._agent_refreshes = self.limits.agent_refreshes.bucket()
        self._address_connects = self.limits.address_connects.bucket()
        self._address_exchanges = self.limits.address_exchanges.bucket()
        self._address_guesses = self.limits.address_guesses.bucket()
        self._address_devices = self.limits.address_devices.bucket()
        self._typed_codes = self.limits.typed_codes.bucket()
        self._address_refusals = self.limits.address_refusals.bucket()
        self._address_questions = self.limits.address_questions.bucket()

    def connect(self, address: str, agent_id: AgentId | None = None) -> None:
        """A socket wants in, of an agent when one is named. Raises Problem 429."""
        _take(self._address_connects, network_of(address))
        if agent_id is not None:
            _take(self._agent_connects, str(agent_id))

    def exchange(self, address: str) -> None:
        """A request that shows a one-time or a refresh token. Raises Problem 429, also when too many were bad."""
        wait = self._address_guesses.wait(network_of(address), time.monotonic())
        if wait > 0:
            raise _too_often(wait)
        self.rotate(address)

    def rotate(self, address: str) -> None:
        """An agent shows a refresh token over its connection; it is let in already, so bad tokens of others at its
        address are not held against it. Raises Problem 429."""
        _take(self._address_exchanges, network_of(address))

    def device(self, address: str) -> None:
        """A machine asks to be let in as an agent. Raises Problem 429."""
        _take(self._address_devices, network_of(address))

    def typed(self, operator: str, address: str) -> None:
        """An operator has typed the code of such a request. Raises Problem 429: codes are short enough to guess at."""
        _take(self._typed_codes, operator, network_of(address))

    def typed_well(self, operator: str, address: str) -> None:
        """The code was right, and does not count."""
        self._typed_codes.refund([operator, network_of(address)])

    def refresh(self, agent_id: AgentId) -> None:
        """An agent asks for its next tokens. Raises Problem 429."""
        _take(self._agent_refreshes, str(agent_id))

    def guessed(self, address: str) -> None:
        """A one-time or refresh token was not known. Raises Problem 429 when that has happened too often."""
        _take(self._address_guesses, network_of(address))

    def refused(self, address: str) -> None:
        """A signed token was not good. Raises Problem 429 when that has happened too often; a good one is let in all
        the same, for it is told from a bad one in memory."""
        _take(self._address_refusals, network_of(address))

    def question(self, address: str) -> None:
        """The sign-in service is to be asked who holds a token. Raises Problem 429 when too many were not good."""
        _take(self._address_questions, network_of(address))

    def question_answered(self, address: str) -> None:
        """The token was good, and does not count."""
        self._address_questions.refund([network_of(address)])


def _take(bucket: LeakyBuckets, *keys: str) -> None:
    refusal = bucket.take(keys, time.monotonic())
    if refusal is not None:
        raise _too_often(refusal.wait)


def _too_often(wait: float) -> Problem:
    return Problem(429, f"Too often: try again in {math.ceil(wait)} s.", headers={"Retry-After": str(math.ceil(wait))})
