"""Pages of a list: the items of one page, and the place at which the next page starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from psycopg.rows import DictRow


@dataclass(frozen=True, slots=True)
class Page:
    """One page of rows; `has_more` if another page follows."""

    rows: list[DictRow]
    has_more: bool

    def cursor(self, column: str) -> Any:
        """The value of `column` in the page's last row, after which the next page starts; None on the last page."""
        return self.rows[-1][column] if self.has_more else None


async def read_page(limit: int, read: Callable[[int], Awaitable[list[DictRow]]]) -> Page:
    """A page of at most `limit` rows. `read` is given the number of rows to read: one more, which shows whether another
    page follows."""
    rows = await read(limit + 1)
    return Page(rows[:limit], len(rows) > limit)
