"""Background work is started again when it fails, and given up when that does not help."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from onsembl.protocol.backoff import Backoff
from onsembl.protocol.restarts import RestartPolicy
from onsembl.sql import supervision
from onsembl.sql.supervision import Failed, GaveUp, start_supervised, supervise


def at_once(attempts: int = 3) -> RestartPolicy:
    return RestartPolicy(attempts=attempts, backoff=Backoff(cap=0.0, base=0.0))


async def test_work_that_fails_starts_again_until_it_returns():
    """After two failures the third run returns, and so does the supervision."""
    runs = []

    async def work() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise Failed("broken")

    await supervise("Work", work, at_once())
    assert len(runs) == 3


async def test_work_that_always_fails_is_given_up():
    """The error names the work and the last failure."""

    async def work() -> None:
        raise Failed("broken")

    with pytest.raises(GaveUp, match="Work fails again after each restart: broken"):
        await supervise("Work", work, at_once())


@pytest.mark.parametrize("grouped", [False, True])
async def test_errors_of_the_database_are_never_given_up(grouped: bool):
    """Ten failures because of the database are followed by an eleventh run, also out of a group of tasks."""
    runs = []

    async def work() -> None:
        runs.append(1)
        if len(runs) <= 10:
            error = psycopg.OperationalError("away")
            raise ExceptionGroup("tasks", [error]) if grouped else error

    await supervise("Work", work, at_once())
    assert len(runs) == 11


async def test_a_cancelled_supervision_ends_its_work():
    """A cancellation reaches the work, which is not started again."""
    running, ended = asyncio.Event(), []

    async def work() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    task = asyncio.create_task(supervise("Work", work, at_once()))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [1]


async def test_work_that_is_given_up_is_reported(monkeypatch: pytest.MonkeyPatch):
    """The process learns that it can do only a part of its work."""
    monkeypatch.setattr(supervision, "RestartPolicy", at_once)

    async def work() -> None:
        raise Failed("broken")

    reported: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    task = start_supervised("Work", work, reported.set_result)
    assert str(await reported) == "Work fails again after each restart: broken"
    assert isinstance(task.exception(), GaveUp)


@pytest.mark.parametrize("module", ["api/app.py", "realtime/builtin.py", "realtime/channels/app.py"])
def test_tasks_for_the_life_of_a_process_are_supervised(module: str):
    """A task that these modules start would otherwise fail unseen, and the process would go on without it."""
    assert "create_task(" not in (Path(__file__).parents[2] / module).read_text()
