"""The repairs that a sweep makes in the database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest
from procrastinate.periodic import PeriodicDeferrer

from onsembl.fleet.commands import CommandContent, send
from onsembl.fleet.listener import Listener
from onsembl.protocol.ids import AgentId, CommandId, InstanceId, OperatorId
from onsembl.protocol.messages import Ended
from onsembl.sql import agents, commands, instances, jobs, locks
from onsembl.sql.audit import Actor
from onsembl.sql.database import Connection, Pool, connect, create_pool
from onsembl.tasks import recovery
from onsembl.tasks.app import HOURLY, KEEP_ARCHIVE, PERIODIC, new_app

ANN = Actor("operator", UUID(int=1), "ann", "127.0.0.1")


@pytest.fixture
async def pool(database_url):
    async with create_pool(database_url, role="onsembl_api") as pool:
        yield pool


async def an_agent(conn: Connection) -> AgentId:
    row = await agents.create(conn, name="one", kind="shell", mode="exec", host="", platform="")
    assert row is not None
    await conn.execute("update agents set status = 'online' where id = %s", [row["id"]])
    return row["id"]


async def a_command(conn: Connection, agent_id: AgentId) -> CommandId:
    """Send a command, which gets a job if the agent is free."""
    row = (await send(conn, CommandContent(text="ls"), agent_id, ANN)).command
    assert row is not None
    return row["id"]


async def jobs_of(conn: Connection) -> list[tuple[str, bool]]:
    """The status of every job, and whether it is the newest of a command."""
    cursor = await conn.execute(
        """select status, exists (select from commands where job_id = jobs.id) as held
           from procrastinate_jobs as jobs order by id"""
    )
    return [(row["status"], row["held"]) for row in await cursor.fetchall()]


async def test_a_dead_workers_job_of_a_command_that_is_over_is_given_up(pool, database_url):
    """A dead worker's job of an ended command fails, and the job of the agent's next command stays."""
    async with await connect(database_url) as conn:
        agent_id = await an_agent(conn)
        await a_command(conn, agent_id)
        second = await a_command(conn, agent_id)
        await conn.execute("update procrastinate_jobs set status = 'doing'")  # the worker of this job is dead
        await conn.execute("update commands set state = 'succeeded' where state = 'dispatched'")
        promoted = await commands.promote(conn, agent_id)
        assert promoted is not None and promoted["id"] == second
        await conn.commit()
        await recovery.Sweeper(pool, 1.0, 1.0).sweep()
        assert await jobs_of(conn) == [("failed", True), ("todo", True)]
        listed = await jobs.page(conn, ["failed", "waiting"], 1.0, None, 10)
        assert [job["error"] for job in listed] == [None, recovery.OVER]


@pytest.mark.parametrize("first", ["the retry", "the end"])
async def test_a_command_ends_while_its_job_is_taken_up_again(pool, database_url, first):
    """A job is returned to the queue in one transaction while another one writes the end of its command and gives the
    next command a job: neither waits for the other, and both succeed."""
    async with await connect(database_url) as sweep, await connect(database_url) as conn:
        agent_id = await an_agent(conn)
        command = await a_command(conn, agent_id)
        second = await a_command(conn, agent_id)
        cursor = await conn.execute("update procrastinate_jobs set status = 'doing' returning id")
        (job,) = await cursor.fetchall()
        await conn.commit()
        await conn.execute("set local lock_timeout = '5s'")
        if first == "the retry":
            await jobs.retry(sweep, job["id"])
        end = Ended(command_id=command, outcome="succeeded", ended_at=datetime.now(UTC), exit_code=0)
        written = await commands.ended(conn, agent_id, end, ANN, promote_next=True)
        assert written is not None and written[1] is not None
        assert (written[0]["state"], written[1]["id"]) == ("succeeded", second)
        await conn.commit()
        if first == "the end":
            await jobs.retry(sweep, job["id"])
        await sweep.commit()
        assert await jobs_of(conn) == [("todo", True), ("todo", True)]


async def test_a_dead_workers_job_of_a_command_that_goes_on_is_taken_up_again(pool, database_url):
    """A dead worker's job of an unfinished command waits for the next worker."""
    async with await connect(database_url) as conn:
        agent_id = await an_agent(conn)
        await a_command(conn, agent_id)
        await conn.execute("update procrastinate_jobs set status = 'doing'")
        await conn.commit()
        await recovery.Sweeper(pool, 1.0, 1.0).sweep()
        assert await jobs_of(conn) == [("todo", True)]


async def test_a_dead_workers_periodic_job_is_taken_up_again(pool, database_url):
    """A dead worker's periodic job runs again at once, although it has no command and its next time may be an hour
    away."""
    async with await connect(database_url) as conn, create_pool(database_url, autocommit=True) as own:
        app = new_app(Listener(database_url))
        await app.open_async(own)
        await app.configure_task(KEEP_ARCHIVE, lock=KEEP_ARCHIVE).defer_async(timestamp=0)
        await conn.execute("update procrastinate_jobs set status = 'doing'")
        await conn.commit()
        await recovery.Sweeper(pool, 1.0, 1.0).sweep()
        assert await jobs_of(conn) == [("todo", False)]


async def test_a_job_that_waits_for_a_command_that_is_over_makes_room(database_url):
    """If a command ends before a worker takes its job again, the job is cancelled and the next command is promoted."""
    async with await connect(database_url) as conn:
        agent_id = await an_agent(conn)
        await a_command(conn, agent_id)
        await a_command(conn, agent_id)
        await conn.execute("update commands set state = 'succeeded' where state = 'dispatched'")
        assert await commands.promote(conn, agent_id) is not None
        assert await jobs_of(conn) == [("cancelled", True), ("todo", True)]


async def test_a_command_without_a_job_gets_one(pool, database_url):
    """A command whose job was aborted while its worker died gets a new job, which continues the cancellation."""
    async with await connect(database_url) as conn:
        agent_id = await an_agent(conn)
        command_id = await a_command(conn, agent_id)
        await commands.request_cancel(conn, command_id, OperatorId(UUID(int=1)), None)
        await conn.execute("update procrastinate_jobs set status = 'doing', abort_requested = true")
        await conn.commit()
        await recovery.Sweeper(pool, 1.0, 1.0).sweep()
        assert await jobs_of(conn) == [("failed", False), ("todo", True)]


async def test_a_job_that_a_clock_put_off_for_an_hour_is_due(pool, database_url):
    """A job whose next attempt was set by a clock that was ahead does not wait until all clocks are there."""
    async with await connect(database_url) as conn:
        await a_command(conn, await an_agent(conn))
        await conn.execute("update procrastinate_jobs set scheduled_at = now() + interval '1 hour'")
        await conn.commit()
        assert not await jobs.due(conn, 1.0)
        await conn.commit()
        await recovery.Sweeper(pool, 1.0, 1.0).sweep()
        assert await jobs.due(conn, 1.0)


class Observed:
    """A sweeper whose clock the test moves."""

    def __init__(self, pool: Pool) -> None:
        self.now = 0.0
        self.sweeper = recovery.Sweeper(pool, 12.0, 30.0, lambda: self.now)

    async def sweep_until(self, end: float) -> None:
        """Sweep every three seconds."""
        while self.now < end:
            self.now += 3.0
            await self.sweeper.sweep()


async def _status(conn: Connection) -> list[str]:
    cursor = await conn.execute("select status from agents")
    statuses = [row["status"] for row in await cursor.fetchall()]
    await conn.commit()
    return statuses


@pytest.mark.parametrize("clock", ["now() - interval '1 day'", "now() + interval '1 day'"])
async def test_an_instance_is_dead_when_its_heartbeats_number_stays(pool, database_url, clock):
    """An instance whose heartbeats have stopped is removed and its agent marked offline, whatever the database's clock
    says of it; one that beats stays."""
    async with await connect(database_url) as conn:
        instance = await instances.register(conn, "")
        await an_agent(conn)
        await conn.execute("update agents set instance_id = %s", [instance])
        await conn.execute(f"update instances set heartbeat_at = {clock}")  # type: ignore[arg-type]
        await conn.commit()
        observed = Observed(pool)
        await observed.sweep_until(30.0)
        assert await _status(conn) == ["online"]
        await instances.heartbeat(conn, instance, "")
        await conn.commit()
        await observed.sweep_until(60.0)
        assert await _status(conn) == ["online"]
        await observed.sweep_until(66.0)
        assert await _status(conn) == ["offline"]
        assert await instances.numbers(conn) == {}
        assert await instances.heartbeat(conn, instance, ""), "it learns that it was taken for dead"
        assert not await instances.heartbeat(conn, instance, "")


async def test_a_heartbeat_after_the_look_saves_the_instance(pool, database_url):
    """A process that writes a heartbeat, or is writing one, after it was seen dead is not taken for dead."""
    async with await connect(database_url) as conn, await connect(database_url) as other:
        instance = await instances.register(conn, "")
        await conn.execute("insert into procrastinate_workers default values")
        await conn.commit()
        seen, workers = await instances.numbers(conn), await jobs.worker_numbers(conn)
        await conn.commit()
        await instances.heartbeat(other, instance, "")
        await other.execute("update procrastinate_workers set last_heartbeat = now()")
        assert await instances.lock_silent(conn, seen) == await jobs.lock_silent_workers(conn, workers) == []
        await other.commit()
        assert await instances.lock_silent(conn, seen) == await jobs.lock_silent_workers(conn, workers) == []
        assert await instances.lock_silent(conn, await instances.numbers(conn)) == [instance]
        assert await jobs.lock_silent_workers(conn, await jobs.worker_numbers(conn)) == list(workers)


async def test_a_workers_jobs_stay_while_its_heartbeats_number_changes(pool, database_url):
    """The job of a worker is taken up again when the worker's heartbeats have stopped, whatever the database's clock
    says of them."""
    async with await connect(database_url) as conn:
        agent_id = await an_agent(conn)
        await a_command(conn, agent_id)
        await conn.execute(
            """with worker as (
                   insert into procrastinate_workers (last_heartbeat) values (now() - interval '1 day') returning id)
               update procrastinate_jobs set status = 'doing', worker_id = worker.id from worker"""
        )
        await conn.commit()
        observed = Observed(pool)
        await observed.sweep_until(12.0)
        assert await jobs_of(conn) == [("doing", True)]
        await conn.execute("update procrastinate_workers set last_heartbeat = now() + interval '1 day'")
        await conn.commit()
        await observed.sweep_until(24.0)
        assert await jobs_of(conn) == [("doing", True)]
        await conn.commit()
        await observed.sweep_until(30.0)
        assert await jobs_of(conn) == [("todo", True)]
        assert await jobs.worker_numbers(conn) == {}


async def test_two_instances_repair_once(pool, database_url):
    """While two look at the same time, again and again, a dead instance's agent is marked offline once, and a command
    that lost its job gets one."""
    now = 0.0
    sweepers = [recovery.Sweeper(pool, 1.0, 1.0, lambda: now) for _ in range(2)]
    async with await connect(database_url, autocommit=True) as conn:
        agent_id = await an_agent(conn)
        await a_command(conn, agent_id)
        await conn.execute("delete from procrastinate_jobs")
        dead = await instances.register(conn, "a-dead-one:8400")
        await conn.execute("update agents set instance_id = %s where id = %s", [dead, agent_id])
        for _ in range(12):
            await asyncio.gather(*(sweeper.sweep() for sweeper in sweepers))
            now += sweepers[0].interval
        assert await instances.numbers(conn) == {}
        assert await jobs_of(conn) == [("todo", True)]
        cursor = await conn.execute("select count(*) as count from audit where action = 'agent.stranded'")
        assert await cursor.fetchone() == {"count": 1}


async def _unlocked(_conn: Connection, _name: str) -> bool:
    """Instead of `locks.try_take`: any number of processes repair at a time."""
    return True


async def _all_silent(_conn: Connection, numbers: dict[InstanceId, str]) -> list[InstanceId]:
    """Instead of `instances.lock_silent`: a dead instance is neither locked nor looked at again."""
    return list(numbers)


class OfflineInTwoSteps:
    """Instead of `agents.mark_offline`: the agents are found, and then changed whatever has happened meanwhile."""

    def __init__(self, both: asyncio.Barrier | None) -> None:
        self._both = both
        """Where two processes wait for each other between the steps."""

    async def __call__(self, conn: Connection, dead: list[InstanceId]) -> list[dict]:
        online = "select id, name from agents where status = 'online' and instance_id = any(%s)"
        found = await (await conn.execute(online, [dead])).fetchall()
        if self._both is not None:
            await self._both.wait()
        changed = "update agents set status = 'offline', instance_id = null where id = any(%s)"
        await conn.execute(changed, [[row["id"] for row in found]])
        return found


async def test_each_guard_alone_has_two_instances_repair_once(pool, database_url, monkeypatch):
    """Of the lock of a repair, the lock of a dead instance's row and the condition of the change, any one has two
    instances that repair at the same time mark an agent offline once. Without all of them, both do."""
    async with await connect(database_url, autocommit=True) as conn:
        agent_id = await an_agent(conn)

        async def events() -> int:
            cursor = await conn.execute("select count(*) as count from audit where action = 'agent.stranded'")
            row = await cursor.fetchone()
            assert row is not None
            return row["count"]

        async def marked(*removed: str) -> int:
            """How often the agent is marked offline without these guards."""
            before = await events()
            dead = await instances.register(conn, "a-dead-one:8400")
            numbers = await instances.numbers(conn)
            online = "update agents set status = 'online', instance_id = %s where id = %s"
            await conn.execute(online, [dead, agent_id])
            both = asyncio.Barrier(2)
            replaced = {
                "lock": (locks, "try_take", _unlocked),
                "row": (instances, "lock_silent", _all_silent),
                "condition": (agents, "mark_offline", OfflineInTwoSteps(both if len(removed) == 3 else None)),
            }
            with monkeypatch.context() as patch:
                for guard in removed:
                    patch.setattr(*replaced[guard])
                sweepers = [recovery.Sweeper(pool, 1.0, 1.0) for _ in range(2)]
                await asyncio.gather(*(sweeper._repair({}, numbers, {}) for sweeper in sweepers))
            assert await _status(conn) == ["offline"]
            return await events() - before

        assert await marked() == 1
        assert await marked("row", "condition") == 1
        assert await marked("lock", "condition") == 1
        assert await marked("lock", "row") == 1
        assert await marked("lock", "row", "condition") == 2


async def queued_by_two(pool: Pool, database_url: str, due: int) -> dict[str, list[int]]:
    """Two instances queue the periodic jobs that are due at the same time, twice for the first hour and once for the
    next; the times for which each task is queued."""
    apps = [new_app(Listener(database_url), schedules=False) for _ in range(2)]
    deferrers = [PeriodicDeferrer(app.periodic_registry) for app in apps]
    for app in apps:
        await app.open_async(pool)
    for at in (due + 1, due + 2, due + 3601):
        await asyncio.gather(*(each.defer_jobs(each.get_previous_tasks(at=at)) for each in deferrers))
    async with await connect(database_url) as conn:
        cursor = await conn.execute(
            """select task_name, array_agg((args ->> 'timestamp')::int order by args ->> 'timestamp') as times
               from procrastinate_jobs group by task_name"""
        )
        return {row["task_name"]: row["times"] for row in await cursor.fetchall()}


DUE = 1_800_000_000 // 3600 * 3600 + 17 * 60
HOURLY_TASKS = [task for task, cron in PERIODIC.items() if cron == HOURLY]


async def test_two_instances_queue_retention_once(pool, database_url):
    """Each periodic job is queued once for each time."""
    assert await queued_by_two(pool, database_url, DUE) == {task: [DUE, DUE + 3600] for task in HOURLY_TASKS}


async def test_retention_is_queued_twice_without_its_guard(pool, database_url):
    """Without the unique times of a periodic job, both instances queue it."""
    async with await connect(database_url) as conn:
        unique = "procrastinate_periodic_defers_unique"
        await conn.execute(f"alter table procrastinate_periodic_defers drop constraint {unique}")  # type: ignore[arg-type]
    twice = [DUE, DUE, DUE + 3600, DUE + 3600]
    assert await queued_by_two(pool, database_url, DUE) == {task: twice for task in HOURLY_TASKS}
