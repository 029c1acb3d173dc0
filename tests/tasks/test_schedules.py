"""Due schedules create commands: each time once, with concurrent workers and after downtime."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from onsembl.fleet.listener import Listener
from onsembl.protocol.ids import OperatorId
from onsembl.sql import agents, operators, schedules
from onsembl.sql.database import Connection, connect, create_pool
from onsembl.tasks.app import FIRE_SCHEDULES, new_app
from onsembl.tasks.metrics import Pools, WorkerMetrics, new_registry
from onsembl.tasks.schedules import fire_due
from onsembl.tasks.worker import WorkerSettings, run_worker

NOW = datetime.now(UTC)
ANN = OperatorId(UUID(int=1))


@pytest.fixture
async def pool(database_url):
    async with create_pool(database_url, role="onsembl_api", max_size=8) as pool:
        yield pool


@pytest.fixture
async def conn(database_url):
    async with await connect(database_url) as conn:
        await conn.set_autocommit(True)
        await agents.create(conn, name="one", kind="claude", mode="exec", host="", platform="")
        await operators.seen(conn, ANN, "ann", "operator")
        yield conn


async def a_schedule(conn: Connection, due: datetime, **content: object) -> UUID:
    given = {"text": "ls", "preset": None, "values": {}, "priority": None, "limits": {}, "target": {"agents": ["one"]}}
    given |= {"conversation": "new", "model": None, "effort": None, "permission_mode": None, "rules": {}}
    rule = {"name": uuid4().hex, "cron": "0 0 29 2 *", "time_zone": "UTC", "at": None}
    made = await schedules.insert(conn, {**given, **rule, **content}, due, ANN, "ann")
    assert made is not None
    return made


async def made_by(conn: Connection, schedule_id: UUID) -> tuple[dict, list[dict]]:
    """The schedule and its runs, newest run first."""
    [row] = await schedules.list_schedules(conn, schedule_id)
    return row, await schedules.runs(conn, schedule_id, 10)


async def commands_of(conn: Connection) -> list[dict]:
    cursor = await conn.execute("select * from commands order by seq")
    return await cursor.fetchall()


async def test_a_schedule_that_cannot_be_read_holds_no_other(pool, conn):
    """A due schedule with values that are none fails with the reason, and the next one sends its command."""
    broken = [
        await a_schedule(conn, NOW - timedelta(hours=2), target=[1]),
        await a_schedule(conn, NOW - timedelta(hours=2), limits={"tokens": 10**30}),
        await a_schedule(conn, NOW - timedelta(hours=2), text=None, preset="own", values={"goal": 10**30}),
    ]
    sound = await a_schedule(conn, NOW - timedelta(hours=1))
    assert await fire_due(pool) == 4
    for schedule_id in broken:
        row, [run] = await made_by(conn, schedule_id)
        assert run["error"].startswith("The schedule cannot be read: ")
        assert row["next_at"] > NOW
    _, [run] = await made_by(conn, sound)
    assert run["command_id"] is not None


async def test_what_was_missed_comes_once(pool, conn):
    """Missed leap days create one command, for the first of them, and the next time is the next leap day."""
    missed = NOW - timedelta(days=5000)
    schedule_id = await a_schedule(conn, missed, priority=2)
    assert await fire_due(pool) == 1
    assert await fire_due(pool) == 0
    row, [run] = await made_by(conn, schedule_id)
    [command] = await commands_of(conn)
    assert (run["due_at"], run["command_id"], run["counts"]) == (missed, command["id"], {"queued": 1})
    assert row["next_at"] > NOW and (row["next_at"].month, row["next_at"].day) == (2, 29)
    assert (command["text"], command["priority"], command["requested_by_name"]) == ("ls", 2, f"schedule {row['name']}")
    cursor = await conn.execute("select actor_kind, action, target_id from audit order by id")
    assert [tuple(row.values()) for row in await cursor.fetchall()] == [
        ("system", "command.requested", str(command["id"])),
        ("system", "schedule.fired", str(schedule_id)),
    ]


async def test_many_at_once_fire_each_once(pool, conn):
    """Eight workers that look at the same time run each of ten schedules once."""
    made = [await a_schedule(conn, NOW) for _ in range(10)]
    assert sum(await asyncio.gather(*(fire_due(pool) for _ in range(8)))) == 10
    assert len(await commands_of(conn)) == 10
    assert [len((await made_by(conn, schedule_id))[1]) for schedule_id in made] == [1] * 10


class TakenByBoth:
    """Instead of `schedules.take_due`: a schedule that is due is not locked, and two processes wait until both have
    it."""

    def __init__(self) -> None:
        self._both = asyncio.Barrier(2)

    async def __call__(self, conn: Connection) -> dict | None:
        due = "select *, now() from schedules where next_at <= now() order by next_at limit 1"
        row = await (await conn.execute(due)).fetchone()
        if row is not None:
            await self._both.wait()
        return row


async def test_each_guard_alone_has_two_processes_fire_once(pool, conn, monkeypatch):
    """Of the lock of a schedule that is due and the claim of its time, either has two processes fire it once. Without
    both of them, both do."""
    begin_run = schedules.begin_run

    async def claimed_by_all(conn: Connection, schedule_id: UUID, due_at: datetime) -> bool:
        await begin_run(conn, schedule_id, due_at)
        return True

    async def fired(*removed: str) -> int:
        """How many commands a schedule sends without these guards."""
        await a_schedule(conn, NOW, cron=None, at=NOW)  # of one that repeats, a second command would be skipped
        before = len(await commands_of(conn))
        replaced = {
            "lock": (schedules, "take_due", TakenByBoth()),
            "claim": (schedules, "begin_run", claimed_by_all),
        }
        with monkeypatch.context() as patch:
            for guard in removed:
                patch.setattr(*replaced[guard])
            await asyncio.gather(fire_due(pool), fire_due(pool))
        return len(await commands_of(conn)) - before

    assert await fired() == 1
    assert await fired("lock") == 1
    assert await fired("claim") == 1
    assert await fired("lock", "claim") == 2


async def test_a_time_that_was_claimed_is_not_fired_again(pool, conn):
    """A time that a schedule has run for does not run again when the schedule is set back."""
    schedule_id = await a_schedule(conn, NOW)
    await fire_due(pool)
    await schedules.advance(conn, schedule_id, NOW)
    await fire_due(pool)
    assert len(await commands_of(conn)) == 1


async def test_once_is_once(pool, conn):
    """A schedule with a single time has no next time after it has run, and a later one does not run yet."""
    once = await a_schedule(conn, NOW, cron=None, at=NOW)
    later = await a_schedule(conn, NOW + timedelta(hours=1), cron=None, at=NOW + timedelta(hours=1))
    assert await fire_due(pool) == 1
    assert (await made_by(conn, once))[0]["next_at"] is None
    assert (await made_by(conn, later))[1] == []


async def test_what_cannot_be_made_says_why_and_comes_again(pool, conn):
    """A run whose agent or preset is gone stores the error and keeps the next time, and the other schedules run."""
    gone = await a_schedule(conn, NOW - timedelta(minutes=9), target={"agents": ["gone"]})
    preset = await a_schedule(conn, NOW - timedelta(minutes=8), text=None, preset="gone")
    fine = await a_schedule(conn, NOW - timedelta(minutes=7), target={"all": True}, text=None, preset="review")
    assert await fire_due(pool) == 3
    for schedule_id, error in ((gone, "Agent not found"), (preset, "Preset not found: gone.")):
        row, [run] = await made_by(conn, schedule_id)
        assert error in run["error"] and row["last"]["error"] == run["error"] and row["next_at"] > datetime.now(UTC)
    _, [run] = await made_by(conn, fine)
    assert run["group_id"] is not None and run["counts"] == {"queued": 1}
    [command] = await commands_of(conn)
    assert (command["preset"], command["group_id"]) == ("Review", run["group_id"])


async def test_commands_do_not_pile_up_behind_an_agent_that_is_away(pool, conn):
    """While the command of an earlier run is queued, a run is skipped and audited as skipped."""
    schedule_id = await a_schedule(conn, NOW - timedelta(minutes=3))
    await fire_due(pool)
    [command] = await commands_of(conn)
    await schedules.advance(conn, schedule_id, NOW - timedelta(minutes=2))
    await fire_due(pool)
    row, [skipped, _] = await made_by(conn, schedule_id)
    assert (skipped["command_id"], skipped["error"], skipped["skipped"]) == (None, None, ["one"])
    assert row["last"]["skipped"] == ["one"] and row["next_at"] > NOW
    cursor = await conn.execute("select outcome, detail from audit where action = 'schedule.skipped'")
    [event] = await cursor.fetchall()
    assert event["outcome"] == "ok" and event["detail"]["skipped"] == ["one"]
    await conn.execute("update commands set state = 'succeeded' where id = %s", [command["id"]])
    await schedules.advance(conn, schedule_id, NOW - timedelta(minutes=1))
    await fire_due(pool)
    assert [row["state"] for row in await commands_of(conn)] == ["succeeded", "queued"]


async def test_a_group_passes_over_those_that_have_the_last_one_still(pool, conn):
    """A run for several agents skips an agent until its first command has ended."""
    schedule_id = await a_schedule(conn, NOW - timedelta(minutes=4), target={"all": True})
    two = await agents.create(conn, name="two", kind="shell", mode="exec", host="", platform="")
    assert two is not None
    for minutes in (3, 2, 1):
        await fire_due(pool)
        await conn.execute("update commands set state = 'succeeded' where agent_id = %s", [two["id"]])
        await schedules.advance(conn, schedule_id, NOW - timedelta(minutes=minutes))
    _, [third, second, first] = await made_by(conn, schedule_id)
    assert (first["skipped"], second["skipped"], third["skipped"]) == ([], ["one"], ["one"])
    assert [run["counts"] for run in (second, third)] == [{"succeeded": 1}] * 2
    assert [row["state"] for row in await commands_of(conn)].count("queued") == 1


async def test_what_comes_once_is_never_skipped(pool, conn):
    """A run with a single time is never skipped, because no later run would replace it."""
    schedule_id = await a_schedule(conn, NOW - timedelta(minutes=2), cron=None, at=NOW - timedelta(minutes=2))
    for minutes in (1, 0):
        await fire_due(pool)
        await schedules.advance(conn, schedule_id, NOW - timedelta(minutes=minutes))
    assert len(await commands_of(conn)) == 2


@pytest.mark.parametrize("how", ["disabled", "viewer"])
async def test_it_comes_in_the_name_of_who_may_send_commands(pool, conn, how):
    """A schedule whose operator is disabled or only a viewer now sends no command, and its run stores the reason."""
    schedule_id = await a_schedule(conn, NOW)
    if how == "disabled":
        await operators.disable(conn, ANN, "ann", "operator")
    else:
        await operators.seen(conn, ANN, "ann", "viewer")
    await fire_due(pool)
    _, [run] = await made_by(conn, schedule_id)
    assert run["error"] == "ann, who last changed the schedule, may no longer send commands."
    assert await commands_of(conn) == []


async def test_a_worker_fires_what_is_due(database_url, pool, conn):
    """A worker's periodic job runs the due schedules."""
    await a_schedule(conn, NOW)
    app = new_app(Listener(database_url))
    await app.open_async(pool)
    await app.configure_task(FIRE_SCHEDULES).defer_async(timestamp=0)
    registry = new_registry()
    await run_worker(database_url, WorkerSettings(), WorkerMetrics(registry, Pools(registry)), until_idle=True)
    assert len(await commands_of(conn)) == 1


async def test_old_firings_are_forgotten_but_for_the_last(conn):
    """Old runs are deleted except the last, so a yearly schedule still shows its result."""
    schedule_id = await a_schedule(conn, NOW)
    for days in (300, 200, 100):
        await schedules.begin_run(conn, schedule_id, NOW - timedelta(days=days))
    await conn.execute("update schedule_runs set ran_at = due_at")
    await schedules.forget_runs(conn, 90)
    _, [run] = await made_by(conn, schedule_id)
    assert run["due_at"] == NOW - timedelta(days=100)


async def test_a_schedule_that_cannot_run_keeps_no_other_one_waiting(pool, conn, monkeypatch):
    """Its run has the error, and its next time comes as usual."""
    bad = await a_schedule(conn, NOW - timedelta(days=3), text="bad")
    good = await a_schedule(conn, NOW - timedelta(days=2), text="good")
    may_command = operators.may_command

    async def fails_once(*values: object) -> bool:
        monkeypatch.setattr(operators, "may_command", may_command)
        raise ValueError("a fault")

    monkeypatch.setattr(operators, "may_command", fails_once)
    assert await fire_due(pool) == 2
    assert [command["text"] for command in await commands_of(conn)] == ["good"]
    row, [run] = await made_by(conn, bad)
    assert "ValueError" in run["error"]
    assert row["next_at"] > NOW
    assert (await made_by(conn, good))[1][0]["error"] is None
