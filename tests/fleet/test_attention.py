"""Requests of agents under any order of events, several at the same moment: each is answered once or not at all, and
none is left open after its command."""

from __future__ import annotations

import asyncio
import inspect
import os
import textwrap
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from onsembl.fleet.attention import AnswerError, answer, record_asked
from onsembl.fleet.commands import CommandContent, send
from onsembl.protocol.attention_messages import Allow, Asked, Decision, Deny, PermissionBody, digest_of
from onsembl.protocol.ids import AgentId, CommandId
from onsembl.sql import agents, attention
from onsembl.sql.audit import Actor
from onsembl.sql.database import Connection, Pool, connect, create_pool

EXAMPLES = int(os.environ.get("ONSEMBL_MACHINE_EXAMPLES", "500"))
ANN, BOB = (Actor("operator", uuid4(), name) for name in ("ann@example.org", "bob@example.org"))
BODIES = [
    PermissionBody(
        tool="Bash",
        tool_kind="execute",
        input=f'{{"command":"{line}"}}',
        names=["Bash"],
        said=[line],
        parts=[[line]],
        rules=[f"Bash({line})"],
    )
    for line in ("make test", "make clean")
]
DIGESTS = [digest_of(body) for body in BODIES]
EVENTS = ["ask", "allow", "deny", "allow always", "withdraw", "take", "take late", "end", "reconnect"]


class Center:
    """The requests of one agent's command, in a database; `won` are the answers that counted, in their order."""

    def __init__(self, url: str, pool: Pool) -> None:
        self._url, self.pool = url, pool
        self.ids = [uuid4(), uuid4()]
        self.asked: list[tuple[UUID, str]] = []
        self.won: list[tuple[UUID, str, Decision]] = []
        self.ended = False

    async def begin(self) -> None:
        async with self.pool.connection() as conn:
            agent = await agents.create(conn, name="one", kind="claude", mode="exec", host="", platform="")
            assert agent is not None
            self.agent_id: AgentId = agent["id"]
            command = (await send(conn, CommandContent(text="work"), self.agent_id, ANN)).command
            assert command is not None
            self.command_id: CommandId = command["id"]
            await conn.execute("update commands set state = 'running' where id = %s", [self.command_id])

    async def stop(self) -> None:
        async with await connect(self._url) as conn:
            await conn.execute("delete from agents")

    async def apply(self, event: str, pick: int, body: int) -> None:
        """Let one of the events happen, in a transaction of its own."""
        id, digest = self.ids[pick], DIGESTS[body]
        async with self.pool.connection() as conn:
            match event:
                case "ask":
                    self.asked.append((id, digest))
                    await record_asked(conn, self.agent_id, self.request(id, body))
                case "allow":
                    await self._answer(conn, id, digest, Allow(), "once", ANN)
                case "deny":
                    await self._answer(conn, id, digest, Deny(reason="no"), "once", BOB)
                case "allow always":
                    await self._answer(conn, id, digest, Allow(), "always", ANN)
                case "withdraw":
                    await attention.withdraw(conn, self.agent_id, id, "given up")
                case "take" | "take late":
                    fate = "given" if event == "take" else "late"
                    await attention.answer_taken(conn, self.agent_id, id, digest, fate)
                case "end":
                    self.ended = True
                    await conn.execute("update commands set state = 'lost' where id = %s", [self.command_id])
                case _:
                    await attention.withdraw_others(conn, self.agent_id, [id])

    async def _answer(
        self, conn: Connection, id: UUID, digest: str, decision: Decision, scope: attention.Scope, by: Actor
    ) -> None:
        try:
            row = await answer(conn, id, digest, decision, scope, None, by)
        except AnswerError:
            return
        if row is not None:
            self.won.append((id, digest, decision))

    def request(self, id: UUID, body: int) -> Asked:
        return Asked(
            request_id=id,
            command_id=self.command_id,
            title="make",
            body=BODIES[body],
            digest=DIGESTS[body],
            asked_at=datetime.now(UTC),
        )

    async def check(self) -> None:
        """Require that the rows and the audit log agree with the answers that counted."""
        async with self.pool.connection() as conn:
            rows = [row for id in self.ids if (row := await attention.get(conn, id)) is not None]
            cursor = await conn.execute(
                """select target_id, detail ->> 'digest' as digest, detail -> 'decision' ->> 'decision' as decision,
                          detail ->> 'by' as by
                   from audit where action = 'attention.answered' and detail ->> 'agent_id' = %s""",
                [str(self.agent_id)],
            )
            audited = await cursor.fetchall()
        by_operators = sorted((str(id), digest, _name(decision)) for id, digest, decision in self.won)
        assert by_operators == sorted(
            (one["target_id"], one["digest"], one["decision"]) for one in audited if one["by"] == "operator"
        ), "the audit log has other answers"
        for row in rows:
            id, digest = row["id"], row["digest"]
            assert (id, digest) in self.asked, "nobody asked that"
            answers = [one for one in audited if one["target_id"] == str(id)]
            assert len(answers) <= self.asked.count((id, DIGESTS[0])) + self.asked.count((id, DIGESTS[1])), (
                "answered twice"
            )
            if row["state"] == "answered":
                said = {one["decision"] for one in answers if one["digest"] == digest}
                assert row["decision"]["decision"] in said, "answered by nobody"
            else:
                assert row["decision"] is None and row["delivery"] is None, "an answer without its state"
            if self.ended:
                assert row["state"] != "open", "open after its command"
                assert row["delivery"] != "waiting", "an answer waits after its command"


def _name(decision: Decision) -> str:
    return "allow" if isinstance(decision, Allow) else "deny"


class AttentionMachine(RuleBasedStateMachine):
    """The state machine; the test sets `run` and `center_of`, because it owns the event loop and the database."""

    run: Callable[[Coroutine[Any, Any, None]], None]
    center_of: Callable[[], Center]

    @initialize()
    def begin(self) -> None:
        self.center = self.center_of()
        self.run(self.center.begin())
        self.run(self.center.apply("ask", 0, 0))

    @rule(
        events=st.lists(
            st.tuples(st.sampled_from(EVENTS), st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=4
        )
    )
    def at_the_same_moment(self, events: list[tuple[str, int, int]]) -> None:
        async def happen() -> None:
            await asyncio.gather(*(self.center.apply(*event) for event in events))
            await self.center.check()

        self.run(happen())

    def teardown(self) -> None:
        self.run(self.center.stop())


@pytest.fixture
def machine(database_url: str) -> Iterator[type[AttentionMachine]]:
    """The state machine, on a database of its own."""
    pool = create_pool(database_url, role="onsembl_api", min_size=4, max_size=4)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        class Machine(AttentionMachine):
            run = staticmethod(runner.run)
            center_of = staticmethod(lambda: Center(database_url, pool))

        runner.run(pool.open())
        try:
            yield Machine
        finally:
            runner.run(pool.close())


@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(15, marks=pytest.mark.seconds(3)),
        pytest.param(EXAMPLES, marks=[pytest.mark.soak, pytest.mark.timeout(300 + EXAMPLES)]),
    ],
)
def test_a_request_is_answered_once_or_not_at_all(machine: type[AttentionMachine], examples: int) -> None:
    """Each request is answered at most once for each time that it was asked, in any order of events."""
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=15))


# Checks that the machine finds a missing guard


def _remove(monkeypatch: pytest.MonkeyPatch, function: Any, guard: str) -> None:
    """Run a function of `onsembl.sql.attention` without this part of its statement."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(guard) == 1
    namespace = dict(vars(attention))
    exec(source.replace(guard, ""), namespace)
    monkeypatch.setattr(attention, function.__name__, namespace[function.__name__])


def _at_once(machine: type[AttentionMachine], *events: tuple[str, int, int]) -> None:
    state = machine()
    state.begin()
    try:
        state.at_the_same_moment(list(events))
    finally:
        state.teardown()


def test_an_answer_without_its_guard_is_seen(machine: type[AttentionMachine], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the compare-and-set the machine finds that two answers count."""
    events = [("allow", 0, 0), ("deny", 0, 0), ("allow", 0, 0), ("deny", 0, 0)]
    _at_once(machine, *events)
    _remove(monkeypatch, attention.answer, " and state = 'open'")
    with pytest.raises(AssertionError, match="answered twice"):
        _at_once(machine, *events)


def _answer_while_it_is_asked_otherwise(machine: type[AttentionMachine], url: str) -> None:
    """Answer a request while another transaction replaces what it asks."""
    center = machine.center_of()

    async def answer_meanwhile() -> None:
        await center.begin()
        await center.apply("ask", 0, 0)
        async with center.pool.connection() as conn:
            center.asked.append((center.ids[0], DIGESTS[1]))
            await record_asked(conn, center.agent_id, center.request(center.ids[0], 1))
            answered = asyncio.create_task(center.apply("allow", 0, 0))
            await _until_blocked(url, answered)
        await answered
        try:
            await center.check()
        finally:
            await center.stop()

    machine.run(answer_meanwhile())


def test_an_answer_without_its_digest_is_seen(
    machine: type[AttentionMachine], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the digest in the compare-and-set, a call is allowed for which nobody was asked."""
    _answer_while_it_is_asked_otherwise(machine, database_url)
    _remove(monkeypatch, attention.answer, " and digest = %(digest)s")
    with pytest.raises(AssertionError, match="answered by nobody"):
        _answer_while_it_is_asked_otherwise(machine, database_url)


def test_a_request_does_not_outlive_a_command_that_ends_meanwhile(
    machine: type[AttentionMachine], database_url: str
) -> None:
    """A request that is recorded while its command ends is refused or withdrawn: the one waits for the other."""
    center = machine.center_of()
    running: list[asyncio.Task[None]] = []

    async def ask_while_it_ends() -> None:
        await center.begin()
        async with await connect(database_url) as conn:
            await conn.execute("update onsembl.commands set state = 'lost'")
            center.ended = True
            running.append(asyncio.create_task(center.apply("ask", 0, 0)))
            await _until_blocked(database_url, running[0])
        await running[0]
        await center.check()
        await center.stop()

    machine.run(ask_while_it_ends())


async def _until_blocked(url: str, task: asyncio.Task[None]) -> None:
    """Wait until the statement of the task waits for a lock, or is done without."""
    async with await connect(url, autocommit=True) as conn:
        while not task.done():
            cursor = await conn.execute("select from pg_stat_activity where wait_event_type = 'Lock'")
            if await cursor.fetchone() is not None:
                return
            await asyncio.sleep(0)
