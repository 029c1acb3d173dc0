"""The sum of the statistics of several processes."""

from __future__ import annotations

from onsembl.protocol.statistics import Distribution, PoolStatistics, ProcessStatistics, summed


def process(number: int, *bounds: float, subscribers: int | None = None, **ended: int) -> ProcessStatistics:
    """The statistics of a process whose every number is `number`."""
    times = Distribution(bounds=list(bounds), counts=[number] * (len(bounds) + 1))
    return ProcessStatistics(
        agents=number,
        viewers=number,
        realtime_subscribers=subscribers,
        terminal_bytes=number,
        deliveries=number,
        archive_lag_bytes=number,
        relay=times,
        loop_lag=times,
        commands_ended=ended,
        pools=[PoolStatistics(name="database", size=number, in_use=number, waiting=number)],
        memory_bytes=number,
        cpu_seconds=number + 0.5,
    )


def test_one_process_is_its_own_sum():
    """Nothing is added."""
    assert summed([process(3, 0.1, failed=1)]) == process(3, 0.1, failed=1)


def test_everything_is_summed():
    """Numbers, each state, each pool and each bucket."""
    total = summed([process(2, 0.1, 1.0, failed=1), process(3, 0.1, 1.0, failed=2, succeeded=4)])
    assert (total.agents, total.viewers, total.terminal_bytes, total.deliveries, total.archive_lag_bytes) == (5,) * 5
    assert (total.memory_bytes, total.cpu_seconds) == (5, 6.0)
    assert total.commands_ended == {"failed": 3, "succeeded": 4}
    assert total.pools == [PoolStatistics(name="database", size=5, in_use=5, waiting=5)]
    assert total.relay == total.loop_lag == Distribution(bounds=[0.1, 1.0], counts=[5, 5, 5])


def test_what_is_unknown_or_does_not_fit_is_left_out():
    """Where one process has the built-in Realtime, its subscribers are all; other buckets, as those of another release,
    are not mixed in."""
    total = summed([process(2, 0.1), process(3, 0.5, subscribers=7)])
    assert total.realtime_subscribers == 7
    assert summed([process(1), process(1)]).realtime_subscribers is None
    assert total.relay == Distribution(bounds=[0.1], counts=[2, 2])
