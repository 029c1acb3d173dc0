"""Evaluates the filters of subscriptions, each subscriber's in a feed of its own.

Filters are the only work of the database that a subscriber chooses. So it is done on other connections than the rest,
each statement has a time limit, and each subscriber has a budget of time: a subscriber with costly filters delays and
harms no other, and its subscriptions end once it exceeds its budget.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from onsembl.realtime.channels.limits import RealtimeLimits
from onsembl.realtime.channels.subscription import ChangeFilter, Subscription
from onsembl.sql import realtime_changes
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import DATABASE_ERRORS, Pool

logger = logging.getLogger(__name__)

BATCH = 200
"""How many changes are filtered by one statement."""
CACHED = 10_000
"""How many results are cached."""
PORTION_CHARACTERS = 4_000_000
"""About how many characters of values and arguments one statement has."""
MAX_PENDING = 20_000
"""How many changes may wait for one subscriber's filters."""

TOO_COSTLY = (
    "FilterBudgetExceeded: The filters of this client's subscriptions take too long to evaluate; the subscriptions "
    "with filters have ended"
)

FilterCheck = tuple[str | None, str, ChangeFilter]
"""A value, its SQL type and the filter to check it with."""
Checks = Mapping[Subscription, Sequence[FilterCheck | None]]
"""The checks of each subscription; None for a filter on a column that the change does not have."""
Push = Callable[[Sequence[Subscription]], None]


class Budget:
    """The time that the database may spend on one subscriber: `burst` seconds at once, then a `share` of the time.

    No I/O; `now` is in seconds, of a clock that never goes back.
    """

    def __init__(self, burst: float, share: float, now: float) -> None:
        self._burst, self._share = burst, share
        self._spent, self._at = 0.0, now

    def spend(self, seconds: float, now: float) -> None:
        self._spent = self._left_over(now) + seconds
        self._at = now

    def is_exceeded(self, now: float) -> bool:
        return self._left_over(now) >= self._burst

    def is_unused(self, now: float) -> bool:
        """Whether all that was spent is regained."""
        return self._left_over(now) <= 0

    def _left_over(self, now: float) -> float:
        return max(0.0, self._spent - (now - self._at) * self._share)


@dataclass(slots=True)
class _Feed:
    pending: deque[tuple[Checks, Push, int]] = field(default_factory=deque[tuple[Checks, Push, int]])
    pending_bytes: int = 0
    task: asyncio.Task[None] | None = None


class FilterFeeds:
    """The feeds of all subscribers with filters. Who pays for a filter, the *payer*, is a user or a network.

    `end(payer, reason)` ends the payer's subscriptions with filters; `miss(payer)` has its clients read their rows
    anew, because changes were dropped.
    """

    def __init__(
        self, pool: Pool, limits: RealtimeLimits, end: Callable[[str, str], None], miss: Callable[[str], None]
    ) -> None:
        self._pool = pool
        self._limits = limits
        self._end, self._miss = end, miss
        self._feeds: dict[str, _Feed] = {}
        self._budgets: dict[str, Budget] = {}
        self._matches: dict[FilterCheck, bool] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def clear_cache(self) -> None:
        """Forget results: types may have changed."""
        self._matches.clear()

    def may_subscribe(self, payer: str) -> bool:
        """Whether the payer has a budget left."""
        budget = self._budgets.get(payer)
        return budget is None or not budget.is_exceeded(time.monotonic())

    def spend(self, payer: str, seconds: float) -> None:
        """Count time that the database has spent on a payer's filters."""
        now = time.monotonic()
        if len(self._budgets) > CACHED:
            self._budgets = {name: budget for name, budget in self._budgets.items() if not budget.is_unused(now)}
        budget = self._budgets.setdefault(payer, Budget(self._limits.filter_burst, self._limits.filter_share, now))
        budget.spend(seconds, now)

    def put(self, payer: str, checks: Checks, push: Push, size: int) -> None:
        """Call `push` with the subscriptions whose checks all pass, after the payer's earlier changes. `size` is that
        of the payloads, in bytes."""
        feed = self._feeds.setdefault(payer, _Feed())
        feed.pending.append((checks, push, size))
        feed.pending_bytes += size
        if len(feed.pending) > MAX_PENDING or feed.pending_bytes > self._limits.queue_bytes:
            self.discard(payer)
            self._miss(payer)
        elif feed.task is None or feed.task.done():
            feed.task = asyncio.create_task(self._run(payer, feed), name=f"realtime filters of {payer}")

    def discard(self, payer: str) -> None:
        """Forget the payer's pending changes, and cancel its statement."""
        feed = self._feeds.pop(payer, None)
        if feed is not None and feed.task is not None and feed.task is not asyncio.current_task():
            feed.task.cancel()
            self._stopping.add(feed.task)
            feed.task.add_done_callback(self._stopping.discard)

    async def stop(self) -> None:
        """Cancel all statements."""
        for payer in list(self._feeds):
            self.discard(payer)
        await cancel_until_done(list(self._stopping))

    async def _run(self, payer: str, feed: _Feed) -> None:
        while feed.pending:
            batch = [feed.pending.popleft() for _ in range(min(BATCH, len(feed.pending)))]
            feed.pending_bytes -= sum(size for _, _, size in batch)
            results: Mapping[FilterCheck, bool] = {}
            try:
                results = await self._evaluate(payer, {check for checks, _, _ in batch for check in _all(checks)})
            except psycopg.errors.QueryCanceled:
                self.spend(payer, self._limits.filter_burst)
            except DATABASE_ERRORS as error:
                logger.warning("Filters failed: %s", error, extra={"action": "realtime_filters_failed"})
                self.discard(payer)
                self._miss(payer)
                return
            if not self.may_subscribe(payer):
                self.discard(payer)
                self._end(payer, TOO_COSTLY)
                return
            for checks, push, _ in batch:
                matching = [
                    subscription
                    for subscription, own in checks.items()
                    if all(check is not None and results[check] for check in own)
                ]
                if matching:
                    push(matching)
        if self._feeds.get(payer) is feed:
            del self._feeds[payer]

    async def _evaluate(self, payer: str, checks: set[FilterCheck]) -> Mapping[FilterCheck, bool]:
        """Let the database compare the values with the filters, as values of the columns' types."""
        results = {check: self._matches[check] for check in checks if check in self._matches}
        for missing in _portions(checks - results.keys()):
            async with self._pool.connection() as conn:
                await realtime_changes.limit_statements(conn, self._limits.filter_seconds)
                began = time.monotonic()
                try:
                    passed = await realtime_changes.passing(
                        conn, [(value, kind, f.operator, f.argument, f.negated) for value, kind, f in missing]
                    )
                finally:
                    self.spend(payer, time.monotonic() - began)
            results.update(zip(missing, passed, strict=True))
        if len(self._matches) + len(results) > CACHED:
            self._matches.clear()
        self._matches.update(results)
        return results


def _portions(checks: set[FilterCheck]) -> Iterator[list[FilterCheck]]:
    """The checks in portions, each small enough for one statement."""
    portion: list[FilterCheck] = []
    size = 0
    for check in checks:
        portion.append(check)
        size += len(check[0] or "") + len(check[2].argument)
        if size >= PORTION_CHARACTERS:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _all(checks: Checks) -> list[FilterCheck]:
    return [check for own in checks.values() for check in own if check is not None]
