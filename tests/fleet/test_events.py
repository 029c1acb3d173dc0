"""The event feed: a reader that continues after its cursor misses nothing and reads nothing twice, in whatever order
transactions commit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from onsembl.api.routes.table import ENDPOINTS
from onsembl.fleet import attention as fleet_attention
from onsembl.fleet import events as fleet_events
from onsembl.fleet.commands import CommandContent, send
from onsembl.fleet.events import actions_for, give_positions, page_for
from onsembl.protocol.attention_messages import Allow, Asked, PermissionBody, digest_of
from onsembl.protocol.ids import AgentId
from onsembl.sql import agents, attention, events, reports
from onsembl.sql.audit import Actor
from onsembl.sql.database import Connection, Pool, connect, create_pool
from onsembl.sql.events import EventFilter

ANN = Actor("operator", uuid4(), "ann@example.org")
BODY = PermissionBody(tool="Bash", tool_kind="execute", input='{"command":"make"}', names=["Bash"])
ALL = EventFilter()


@pytest.fixture
async def pool(database_url: str) -> AsyncGenerator[Pool]:
    async with create_pool(database_url, role="onsembl_api", min_size=1, max_size=6) as pool:
        yield pool


async def happen(conn: Connection, number: int) -> None:
    """An event that the transaction of this connection writes."""
    await conn.execute("insert into onsembl.event_outbox (kind, subject_id) values ('test', %s)", [UUID(int=number)])


class Reader:
    """Follows the feed from its begin; `read` are the events by number."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._after = 0
        self.read: list[int] = []

    async def continue_reading(self, limit: int = 2) -> list[int]:
        """Read to the end of the feed, in pages, and return what was new."""
        before = len(self.read)
        while True:
            await give_positions(self._pool)
            async with self._pool.connection() as conn:
                _, rows = await events.page(conn, ALL, self._after, limit)
            if not rows:
                return self.read[before:]
            assert [row["position"] for row in rows] == sorted(row["position"] for row in rows)
            self._after = rows[-1]["position"]
            self.read += [row["subject_id"].int for row in rows]


async def test_an_event_that_commits_late_is_not_missed(pool, database_url):
    """A transaction that has begun first and commits last has its events after all that were read before."""
    reader = Reader(pool)
    async with await connect(database_url) as slow, await connect(database_url) as fast:
        await happen(slow, 1)
        await happen(fast, 2)
        await fast.commit()
        assert await reader.continue_reading() == [2]
        await happen(fast, 3)
        await fast.rollback()
        await slow.commit()
        assert await reader.continue_reading() == [1]
    assert await reader.continue_reading() == []


async def test_readers_see_every_event_once_in_the_same_order(pool, database_url, monkeypatch):
    """While transactions commit and roll back in any order, and several processes give positions, all readers read the
    same events in the same order: each that was committed, once, and those of one transaction in their order."""
    monkeypatch.setattr(fleet_events, "BATCH", 3)
    choose = random.Random(20)
    readers = [Reader(pool) for _ in range(3)]
    committed: list[tuple[int, int]] = []

    async def write(conn: Connection, numbers: tuple[int, int], commits: bool) -> None:
        for number in numbers:
            await happen(conn, number)
            await asyncio.sleep(0)
        if commits:
            await conn.commit()
            committed.append(numbers)
        else:
            await conn.rollback()

    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(await connect(database_url)) for _ in range(4)]
        for turn in range(12):
            numbers = [(100 * turn + 2 * index, 100 * turn + 2 * index + 1) for index in range(len(writers))]
            happening = [
                write(conn, pair, choose.random() < 0.8) for conn, pair in zip(writers, numbers, strict=True)
            ] + [reader.continue_reading() for reader in choose.sample(readers, 2)]
            choose.shuffle(happening)
            await asyncio.gather(*happening)
    for reader in readers:
        await reader.continue_reading()
    assert readers[0].read == readers[1].read == readers[2].read
    assert sorted(readers[0].read) == sorted(number for pair in committed for number in pair)
    for first, second in committed:
        assert readers[0].read.index(first) < readers[0].read.index(second)


async def test_two_processes_give_no_position_twice(pool, database_url):
    """A process that gives positions waits for another one, whose positions are not committed yet."""
    reader = Reader(pool)
    async with await connect(database_url, role="onsembl_api") as conn, await connect(database_url) as writer:
        await happen(writer, 1)
        await writer.commit()
        await events.lock(conn)
        await happen(writer, 2)
        await writer.commit()
        reading = asyncio.create_task(reader.continue_reading())
        await _until_waiting(database_url, reading)
        assert (await events.move(conn, 1))[0] == 1
        await conn.commit()
        assert await reading == [1, 2]


async def _until_waiting(url: str, task: asyncio.Task[list[int]]) -> None:
    async with await connect(url, autocommit=True) as conn:
        while True:
            assert not task.done(), "it has not waited"
            cursor = await conn.execute(
                "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            )
            if await cursor.fetchone() is not None:
                return


async def kinds(pool: Pool, after: int) -> tuple[int, list[tuple[str, str | None]]]:
    """The position of the last event, and each event after a position: its kind, and the activity of a status."""
    await give_positions(pool)
    async with pool.connection() as conn:
        feed, rows = await events.page(conn, ALL, after, 100)
    return feed.last, [(row["kind"], row["detail"].get("name", row["detail"].get("state"))) for row in rows]


async def test_what_happens_to_an_agent_is_told(pool):
    """Requests, ends, limits, halts and each change of the agent's activity are events, also the changes that follow
    from other tables."""
    async with pool.connection() as conn:
        row = await agents.create(conn, name="one", kind="claude", mode="exec", host="", platform="")
        assert row is not None
        agent_id: AgentId = row["id"]
        command = (await send(conn, CommandContent(text="work"), agent_id, ANN)).command
        assert command is not None
    request_id = uuid4()
    asked = Asked(
        request_id=request_id,
        command_id=command["id"],
        title="make",
        body=BODY,
        digest=digest_of(BODY),
        asked_at=datetime.now(UTC),
    )

    async def ask(conn: Connection) -> None:
        await fleet_attention.record_asked(conn, agent_id, asked)

    async def answer(conn: Connection) -> None:
        await fleet_attention.answer(conn, request_id, asked.digest, Allow(), "once", None, ANN)

    last = 0
    for happens, expected in [
        ("update agents set status = 'online'", [("agent.status", "idle")]),
        ("update agents set columns = 100", []),
        ("update commands set state = 'dispatched'", [("agent.status", "working")]),
        ("update commands set state = 'running'", []),
        (ask, [("attention.asked", None), ("agent.status", "waiting")]),
        (answer, [("attention.answered", None), ("agent.status", "working")]),
        ("update agents set paused_at = now()", []),
        (
            "insert into halts (seconds, requested_by_name) values (10, 'ann')",
            [("halt.begun", None), ("agent.status", "halted")],
        ),
        (
            "update commands set state = 'failed', error = repeat('x', 5000)",
            [("command.ended", "failed"), ("attention.asked", None)],  # the note of the failure
        ),
        ("update halts set lifted_at = now()", [("halt.lifted", None), ("agent.status", "paused")]),
        (
            "update agents set paused_at = null, limited_since = now(), limited_until = now() + interval '1 h'",
            [("limit.reached", None), ("agent.status", "limited")],
        ),
        (
            "update agents set limited_since = null, limited_until = null",
            [("limit.over", None), ("agent.status", "idle")],
        ),
        ("update agents set status = 'offline'", [("agent.status", "offline")]),
    ]:
        async with pool.connection() as conn:
            if callable(happens):
                await happens(conn)
            else:
                await conn.execute(happens.encode())
        last, told = await kinds(pool, last)
        assert told == expected, happens
    async with pool.connection() as conn:
        _, rows = await events.page(conn, EventFilter(kind="attention"), 0, 100)
        assert [row["kind"] for row in rows] == ["attention.asked", "attention.answered", "attention.asked"]
        assert [row["detail"]["request_kind"] for row in rows] == ["permission", "permission", "failed"]
        assert not rows[0]["is_open"] and actions_for(rows[0])[0].method == "GET"
        _, rows = await events.page(conn, EventFilter(kind="command.ended", agent_id=agent_id), 0, 100)
        assert len(rows[0]["detail"]["error"]) == 1000
        assert (await events.page(conn, EventFilter(agent_id=AgentId(uuid4())), 0, 100))[1] == []


async def test_a_report_is_an_event_when_it_is_whole(pool):
    """A draft is no event; the report that it becomes, or that is written at once, is one, once."""
    async with pool.connection() as conn:
        row = await agents.create(conn, name="one", kind="claude", mode="exec", host="", platform="")
        assert row is not None
        commands = [(await send(conn, CommandContent(text="work"), row["id"], ANN)).command for _ in range(2)]
        assert commands[0] is not None and commands[1] is not None
        await reports.write(conn, row["id"], commands[0]["id"], "a draft", 0, draft=True)
    assert (await kinds(pool, 0))[1] == []
    for command, draft in [(commands[0], False), (commands[0], True), (commands[1], False), (commands[1], False)]:
        async with pool.connection() as conn:
            await reports.write(conn, row["id"], command["id"], "found", 0, draft=draft)
    last, told = await kinds(pool, 0)
    assert (last, [kind for kind, _ in told]) == (2, ["report.written"] * 2)


async def test_old_events_are_deleted_from_the_front(pool, database_url):
    """Retention deletes the events before the first one that is young, and the feed knows up to where."""
    async with await connect(database_url) as conn:
        for days in (31, 40, 1, 50):
            await conn.execute(
                "insert into onsembl.event_outbox (kind, at) values ('test', now() - %s)", [timedelta(days=days)]
            )
    await give_positions(pool)
    async with pool.connection() as conn:
        await events.forget(conn, 30)
        feed, rows = await events.page(conn, ALL, None, 100)
        assert (feed.deleted, feed.last) == (2, 4)
        assert [row["position"] for row in rows] == [3, 4]
        await events.forget(conn, 0)
        assert await events.page(conn, ALL, None, 100) == (events.Feed(4, 4), [])


def test_what_can_be_done_is_a_route_of_the_api():
    """Each action of an event has the method, the role and the body of a route."""
    ids = {"agent_id": uuid4(), "command_id": uuid4(), "subject_id": uuid4()}
    routes = {(one.method, one.path): one for one in ENDPOINTS}
    names = {str(value): name for name, value in ids.items()}
    for kind, detail in [
        ("attention.asked", {"request_kind": "plan"}),
        ("attention.answered", {}),
        ("command.ended", {}),
        *(("agent.status", {"name": name}) for name in ("waiting", "working", "paused", "limited", "idle")),
        ("limit.reached", {}),
        ("limit.over", {}),
        ("report.written", {}),
        ("halt.begun", {}),
        ("halt.lifted", {}),
    ]:
        actions = actions_for({"kind": kind, "is_open": True, "detail": detail, **ids})
        assert actions, kind
        for action in actions:
            path = action.path.partition("?")[0]
            for id, name in names.items():
                subject = {"attention": "attention_id", "report": "report_id"}.get(kind.partition(".")[0], name)
                path = path.replace(id, f"{{{subject if name == 'subject_id' else name}:uuid}}")
            route = routes[action.method, path]
            body = route.body.__name__ if route.body.__struct_fields__ else None
            assert (action.role, action.body) == (route.role, body), action
    assert (
        actions_for({"kind": "attention.asked", "is_open": True, "detail": {"request_kind": "idle"}, **ids})[0].method
        == "GET"
    )
    assert actions_for({"kind": "agent.status", "detail": object(), **ids})


def test_each_event_has_a_page():
    """A request, a command and a report have pages of their own; all else is the agent's, or the fleet's."""
    ids = {"command_id": "C", "subject_id": "S", "agent_name": "build 1/2"}
    pages = {
        "attention.asked": "/#/inbox/S",
        "attention.withdrawn": "/#/inbox/S",
        "command.ended": "/#/command/C",
        "report.written": "/#/reports/S",
        "agent.status": "/#/agents/build%201%2F2",
        "limit.reached": "/#/agents/build%201%2F2",
    }
    assert {kind: page_for({"kind": kind, **ids}) for kind in pages} == pages
    assert page_for({"kind": "halt.begun", **ids, "agent_name": None}) == "/"


async def test_no_secret_answer_is_in_an_event(pool):
    """The columns of events hold nothing of what was answered but whether it was allowed."""
    async with pool.connection() as conn:
        row = await agents.create(conn, name="one", kind="claude", mode="exec", host="", platform="")
        assert row is not None
        command = (await send(conn, CommandContent(text="work"), row["id"], ANN)).command
        assert command is not None
        await conn.execute("update commands set state = 'running'")
        asked = Asked(
            request_id=uuid4(),
            command_id=command["id"],
            title="make",
            body=BODY,
            digest=digest_of(BODY),
            asked_at=datetime.now(UTC),
        )
        await attention.ask(conn, row["id"], asked)
        by = attention.Answerer(kind="operator", id=None, name="ann")
        await attention.answer(
            conn,
            asked.request_id,
            asked.digest,
            Allow(input='{"command":"hunter2"}'),
            shown={"decision": "allow", "input": "hunter2"},
            is_secret=True,
            by=by,
            scope="once",
        )
    await give_positions(pool)
    async with pool.connection() as conn:
        cursor = await conn.execute("select events::text as text from events")
        texts = [row["text"] for row in await cursor.fetchall()]
    assert any("attention.answered" in text for text in texts)
    assert not any("hunter2" in text for text in texts)
