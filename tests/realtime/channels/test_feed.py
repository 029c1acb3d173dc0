"""The lag of the feed of changes, which a metric reports."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from onsembl.realtime.channels.feed import ChangeFeed
from onsembl.realtime.channels.limits import RealtimeLimits
from onsembl.realtime.replication.pgoutput import Begin, Change

MINUTE = timedelta(minutes=1)


@pytest.fixture
def feed(monkeypatch):
    """A feed whose deliveries wait for `open`."""
    made = ChangeFeed(None, None, RealtimeLimits(), lambda: None)
    made.open = asyncio.Event()

    async def check_connections() -> None:
        pass

    async def deliver(_changes) -> None:
        await made.open.wait()

    monkeypatch.setattr(made.delivery, "deliver", deliver)
    monkeypatch.setattr(made.delivery, "check_connections", check_connections)
    return made


def messages():
    """A change that was committed a minute ago."""
    return [
        Begin(final_lsn=1, committed_at=datetime.now(UTC) - MINUTE, xid=1),
        Change(kind="INSERT", relation=None, new={}, old=None),
    ]


async def test_the_lag_grows_during_a_delivery(feed):
    """While a commit waits for its delivery, the lag is the commit's age."""
    await feed.started()
    assert feed.lag == 0
    delivering = asyncio.create_task(feed.receive(messages()))
    await asyncio.sleep(0)
    first = feed.lag
    assert 60 <= first < feed.lag
    feed.open.set()
    await delivering
    assert feed.lag == feed.lag >= 60


async def test_the_lag_grows_without_a_stream(feed):
    """Without a stream the lag grows from the stream's end until the next stream starts."""
    await feed.started()
    await feed.stopped()
    first = feed.lag
    assert first < feed.lag
    await feed.started()
    assert feed.lag == 0
