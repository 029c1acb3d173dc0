"""The cost of filters: each subscriber pays for its own, and harms no other."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.agents import until

from onsembl.realtime.channels.filters import TOO_COSTLY, Budget
from onsembl.sql.database import connect

from .conftest import IMPATIENT, NOTES, Wire, open_wire
from .test_changes import ALL_NOTES

BACKTRACKING = r"text=match.^(.+)(.+)(.+)\1\2\3\1$"
"""A filter with back-references: for `LONG` it takes longer than anybody waits."""
LONG = "insert into notes (owner, text) values ('all', repeat('ab', 1000) || 'c' || repeat('ba', 1000))"


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100))), st.floats(0.1, 10), st.floats(0, 1))
def test_a_budget_holds_in_the_long_run(spendings: list[tuple[float, float]], burst: float, share: float) -> None:
    """Who spends only while the budget is not exceeded spends at most the burst, the share of the time, and the last
    spending; after a pause that is long enough, the budget is unused."""
    now = spent = largest = 0.0
    budget = Budget(burst, share, now)
    for pause, seconds in spendings:
        now += pause
        if not budget.is_exceeded(now):
            budget.spend(seconds, now)
            spent += seconds
            largest = max(largest, seconds)
    assert spent <= burst + share * now + largest + 1e-6
    if share > 0.01:
        assert budget.is_unused(now + (spent + 1) / share)


@pytest.fixture
async def project(serve_project: Any) -> AsyncGenerator[Any]:
    """A project whose statements of filters may take long; three operators with their `tokens`."""
    async with serve_project(limits=replace(IMPATIENT, filter_seconds=600.0, filter_burst=600.0)) as project:
        await prepare(project)
        yield project


async def prepare(project: Any) -> None:
    await project.execute(NOTES)
    for name in ("eve", "ann", "bob"):
        await project.operator(name)
    project.tokens = {name: (await project.sign_in(name))["access_token"] for name in ("eve", "ann", "bob")}


async def filtering(project: Any) -> list[int]:
    """The processes of Postgres that evaluate filters in the project's database."""
    async with await connect(project.database_url) as conn:
        cursor = await conn.execute(
            """select pid from pg_stat_activity where datname = current_database() and state = 'active'
               and query like '%realtime.passing(%' and pid <> pg_backend_pid()"""
        )
        return [row["pid"] for row in await cursor.fetchall()]


async def subscribe(wire: Wire, token: str, *filters: str | None, topic: str = "changes") -> None:
    await wire.subscribe(token, *({**ALL_NOTES, **({"filter": one} if one else {})} for one in filters), topic=topic)


async def test_a_costly_filter_delays_no_other_subscriber(project: Any) -> None:
    """While the database works at one subscriber's filter, others get their changes, with and without filters. When
    that subscriber leaves, the work ends."""
    async with open_wire(project.url, project.key) as ann, open_wire(project.url, project.key) as bob:
        await subscribe(ann, project.tokens["ann"], "owner=eq.all")
        await subscribe(bob, project.tokens["bob"], None)
        async with open_wire(project.url, project.key) as eve:
            await subscribe(eve, project.tokens["eve"], BACKTRACKING)
            await project.execute(LONG)
            await until(lambda: filtering(project), "the costly filter to be evaluated")
            for number in range(3):
                await project.execute(f"insert into notes (owner, number) values ('all', {number})")
            for wire in (ann, bob):
                assert (await wire.change())["record"]["number"] is None
                assert [(await wire.change())["record"]["number"] for _ in range(3)] == [0, 1, 2]
            assert await filtering(project), "the filter was too cheap for this test"

        async def idle() -> bool:
            return not await filtering(project)

        await until(idle, "the work for the client that left to end")


async def test_filters_that_cost_too_much_end(serve_project: Any) -> None:
    """A subscriber that exceeds its budget is told so and gets no more changes; its channel stays, and so do its
    subscriptions without filters, and all others. Until time has passed, its user cannot subscribe with a filter."""
    limits = replace(IMPATIENT, filter_seconds=1.5, filter_burst=1.5, filter_share=1e-6)
    async with serve_project(limits=limits) as project:
        await prepare(project)
        async with open_wire(project.url, project.key) as eve, open_wire(project.url, project.key) as ann:
            await subscribe(eve, project.tokens["eve"], None, topic="plain")
            await subscribe(ann, project.tokens["ann"], "owner=eq.all")
            await subscribe(eve, project.tokens["eve"], BACKTRACKING, None, topic="costly")
            await project.execute(LONG)
            system = await eve.expect("system", "realtime:costly", status="error")
            assert system["message"] == TOO_COSTLY
            await project.execute("insert into notes (owner, number) values ('all', 1)")
            assert [(await ann.change())["record"]["number"] for _ in range(2)] == [None, 1]
            assert [(await eve.change())["record"]["number"] for _ in range(2)] == [None, 1]
            assert "postgres_changes" not in [frame[3] for frame in await eve.flush()]
            reply = await eve.join(
                "again", project.tokens["eve"], postgres_changes=[{**ALL_NOTES, "filter": "id=eq.1"}]
            )
            assert reply["status"] == "ok"
            assert (await eve.expect("system", "realtime:again"))["message"] == TOO_COSTLY
            await subscribe(eve, project.tokens["eve"], None, topic="plain again")
            ref = await eve.send("realtime:costly", "phx_leave", {})
            assert (await eve.reply(ref))["status"] == "ok"


async def test_the_check_of_a_subscription_costs_its_user(serve_project: Any) -> None:
    """The database's check of a join with many filters ends once the user's budget is spent."""
    limits = replace(IMPATIENT, filter_burst=1e-9, filter_share=1e-9)
    async with serve_project(limits=limits) as project:
        await prepare(project)
        async with open_wire(project.url, project.key) as wire:
            await subscribe(wire, project.tokens["ann"], "id=eq.1")
            entries = [{**ALL_NOTES, "filter": f"id=eq.{number}"} for number in range(2)]
            await wire.join("many", project.tokens["bob"], postgres_changes=entries)
            assert (await wire.expect("system", "realtime:many"))["message"] == TOO_COSTLY


async def test_regular_expressions_are_for_the_secret_key(serve_project: Any) -> None:
    """Where regular expressions are off, only a client with the secret key may filter by one."""
    async with serve_project(limits=replace(IMPATIENT, regular_expressions=False)) as project:
        await prepare(project)
        await project.execute("grant select on notes to service_role")
        async with open_wire(project.url, project.key) as ann, open_wire(project.url, project.secret) as service:
            for number, operator in enumerate(("match", "imatch", "not.match", "not.imatch")):
                entry = {**ALL_NOTES, "filter": f"id=eq.1,text={operator}.a"}
                await ann.join(str(number), project.tokens["ann"], postgres_changes=[entry])
                assert (await ann.expect("system", f"realtime:{number}"))["message"].endswith(
                    "only with the secret key"
                )
            await service.subscribe(project.secret, {**ALL_NOTES, "filter": "text=match.^a.c$"})
            await project.execute("insert into notes (text) values ('ab'), ('abc')")
            assert (await service.change())["record"]["text"] == "abc"


async def test_changes_of_one_subscriber_stay_in_order(project: Any) -> None:
    """A subscriber with filters gets its changes in the order of their commits, those of its subscriptions without a
    filter among them."""
    async with open_wire(project.url, project.key) as wire, open_wire(project.url, project.key) as other:
        inserted = {**ALL_NOTES, "event": "INSERT", "filter": "number=lt.1000"}
        await wire.subscribe(project.tokens["ann"], inserted, {**ALL_NOTES, "event": "UPDATE"})
        await subscribe(other, project.tokens["bob"], None)
        for number in range(5):
            await project.execute(
                f"insert into notes (owner, number) values ('all', {number}); update notes set text = 'x'"
            )
        orders = [
            [(change["type"], change["record"]["id"]) for change in [await one.change() for _ in range(20)]]
            for one in (wire, other)
        ]
        assert orders[0] == orders[1]
