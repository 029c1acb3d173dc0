"""Times that an agent reports lie between the moments that the server knows, whatever the agent's clock says."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from onsembl.sql.database import connect

BASE = datetime(2026, 1, 2, tzinfo=UTC)
HOUR = 3600.0


def moments(seed: int) -> tuple[float, float, float, float | None, float]:
    """The true start and end of a command after its dispatch, the error of the agent's clock, and its start as it was
    recorded before, in seconds; and when the report comes."""
    draw = random.Random(seed)
    started = draw.choice([0.0, draw.uniform(0, 5), draw.uniform(0, HOUR)])
    took = draw.choice([0.0, draw.uniform(0, 10), draw.uniform(0, HOUR)])
    error = draw.choice([0.0, draw.uniform(-2, 2), HOUR, -HOUR, draw.uniform(-1e9, 1e9)])
    known = draw.choice([None, started])
    return started, started + took, error, known, started + took + draw.choice([0.0, draw.uniform(0, HOUR)])


@pytest.mark.parametrize("cases", [2_000, pytest.param(100_000, marks=pytest.mark.soak)])
async def test_reported_times_are_within_the_servers_bounds(database_url, cases):
    """Start and end lie between dispatch and report, in this order; a clock without error changes neither, and the
    duration is kept wherever the bounds allow it."""
    drawn = [moments(seed) for seed in range(cases)]

    def at(seconds: float | None, error: float = 0.0) -> datetime | None:
        return BASE + timedelta(seconds=seconds + error) if seconds is not None else None

    async with await connect(database_url) as conn:
        cursor = await conn.execute(
            """select times.begun, times.finished
               from unnest(%s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])
                   with ordinality as reports (started, ended, known, latest, number),
                   bounded_times(started, ended, known, %s, latest) as times
               order by number""",
            [
                [at(started, error) for started, _, error, _, _ in drawn],
                [at(ended, error) for _, ended, error, _, _ in drawn],
                [at(known) for *_, known, _ in drawn],
                [at(reported) for *_, reported in drawn],
                BASE,
            ],
        )
        rows = await cursor.fetchall()
    assert len(rows) == cases
    for (started, ended, error, known, reported), row in zip(drawn, rows, strict=True):
        begun = (row["begun"] - BASE).total_seconds()
        finished = (row["finished"] - BASE).total_seconds()
        assert 0 <= begun <= finished <= reported + 1e-5, (started, ended, error, known, reported)
        assert finished - begun == pytest.approx(ended - started, abs=1e-5), "the true duration fits, so it is kept"
        if known is not None or error == 0:
            assert begun == pytest.approx(started, abs=1e-5)


async def test_a_command_without_a_start_has_none(database_url):
    """A command that was cancelled before it started gets no start, and an end within the bounds."""
    async with await connect(database_url) as conn:
        cursor = await conn.execute(
            "select * from bounded_times(null, %s, null, %s, %s)",
            [BASE + timedelta(days=1), BASE, BASE + timedelta(seconds=3)],
        )
        row = await cursor.fetchone()
    assert row == {"begun": None, "finished": BASE + timedelta(seconds=3)}
