"""Usage and prices: what each turn used, by every group, and its cost, as reported or estimated."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from support.agents import Operator
from support.api_calls import audit_entries, call_api
from support.cases import cases
from support.command_line import CommandLine
from support.frames import HELLO, next_message
from support.server import Api

from onsembl.protocol.states import Role
from onsembl.sql.database import connect


@pytest.fixture
async def admin(api: Api) -> Operator:
    return Operator(api, await api.operator())


def part(model: str, *counts: int, cost: float | None = None) -> dict:
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    return {"model": model, "cost_usd": cost, **dict(zip(names, counts, strict=True))}


def whole(*parts: dict, **fields: object) -> dict:
    """The usage of a turn that has these parts."""
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    return {**{name: sum(each[name] for each in parts) for name in names}, "models": list(parts), **fields}


async def run_turns(api: Api, admin: Operator, name: str, *used: dict, outcome: str = "succeeded") -> list[dict]:
    """Run a turn for each usage in one conversation of a new agent with the labels `gpu` and its name; return the
    commands."""
    agent = await api.enrol(name, "claude")
    await call_api(admin, "PUT", f"/v1/agents/{agent.id}/labels", {"labels": ["gpu", name]})
    turns = []
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps({**HELLO, "kind": "claude"}))
        for usage in used:
            turns.append(await admin.send(agent.id, f"do it {len(turns)}", conversation="latest"))
            offer = await next_message(socket, "offer")
            end = {"type": "ended", "command_id": offer["command_id"], "outcome": outcome, "usage": usage}
            await socket.send(json.dumps({**end, "ended_at": datetime.now(UTC).isoformat()}))
            await next_message(socket, "end_recorded")
    return turns


def counts(row: dict) -> tuple[int, ...]:
    return tuple(row[f"{name}_tokens"] for name in ("input", "output", "cache_read", "cache_write"))


async def test_turns_are_counted_by_every_group(api, admin):
    """Each turn and model counts once to its day, model, agent, operator, conversation, labels and turn."""
    await run_turns(
        api,
        admin,
        "one",
        whole(part("large", 10, 5, 100, 20, cost=0.5), part("small", 1, 2, 0, 0, cost=0.25), cost_usd=0.75),
        {"input_tokens": 7, "output_tokens": 3, "cost_usd": 1.0, "model": "older"},  # an agent without parts
    )
    await run_turns(api, admin, "two", whole(part("large", 1000, 0, 0, 0)), outcome="cancelled")
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    total = {"turns": 3, "cost_usd": 1.75, "estimated_usd": 0, "unpriced_tokens": 1000}
    wanted = {
        "day": {today: (1018, 10, 100, 20)},
        "model": {"older": (7, 3, 0, 0), "large": (1010, 5, 100, 20), "small": (1, 2, 0, 0)},
        "agent": {"one": (18, 10, 100, 20), "two": (1000, 0, 0, 0)},
        "operator": {"admin@example.org": (1018, 10, 100, 20)},
        "conversation": {"do it 0": (18, 10, 100, 20)},
        "label": {"gpu": (1018, 10, 100, 20), "one": (18, 10, 100, 20), "two": (1000, 0, 0, 0)},
        "turn": {"do it 1": (7, 3, 0, 0), "do it 0": (11, 7, 100, 20)},
    }
    for by, groups in wanted.items():
        report = await call_api(admin, "GET", f"/v1/usage?by={by}")
        found = [(group["name"], counts(group)) for group in report["groups"]]
        assert all((name, row) in found for name, row in groups.items()), (by, found)
        assert {name: report["total"][name] for name in total} == total
        assert counts(report["total"]) == (1018, 10, 100, 20)
    costs = [group["cost_usd"] for group in (await call_api(admin, "GET", "/v1/usage?by=turn"))["groups"]]
    assert costs == [1.0, 0.75, None], "the highest cost first"
    lines = list(csv.DictReader(io.StringIO((await api.http.get("/v1/usage/export", headers=admin.headers)).text)))
    assert [(line["model"], line["input_tokens"], line["cost_usd"]) for line in lines] == [
        ("large", "10", "0.5"),
        ("small", "1", "0.25"),
        ("older", "7", "1.0"),
        ("large", "1000", ""),
    ]


async def test_tokens_of_a_cli_that_may_not_report_all_are_marked(api, admin, tmp_path):
    """Such turns are counted in each sum and in their conversation, even if the CLI reports nothing of them. The
    command line marks them."""
    turns = await run_turns(
        api, admin, "one", whole(part("m", 5, 0, 0, 0)), whole(part("m", 1, 1, 0, 0), partial=True), {"partial": True}
    )
    report = await call_api(admin, "GET", "/v1/usage?by=turn")
    partial = {group["key"]: group["partial_turns"] for group in report["groups"]}
    assert partial == dict(zip([turn["id"] for turn in turns], [0, 1, 1], strict=True))
    assert (report["total"]["turns"], report["total"]["partial_turns"]) == (3, 2)
    lines = csv.DictReader(io.StringIO((await api.http.get("/v1/usage/export", headers=admin.headers)).text))
    assert [line["partial"] for line in lines] == ["false", "true", "true"]
    conversation = await call_api(admin, "GET", f"/v1/conversations/{turns[0]['conversation_id']}")
    assert (conversation["tokens"], conversation["partial"]) == (7, True)
    shown, _ = await CommandLine(api, await api.operator(), tmp_path).run("usage", "--by", "model")
    _, *rows = [line.split() for line in shown.splitlines()]
    assert [row[:3] for row in rows] == [["m", "2", "≥6"], ["-", "1", "≥0"], ["total", "3", "≥6"]]


async def test_a_period_and_a_time_zone_choose_the_turns(api, admin):
    """A turn counts to the day on which it ended in the time zone, and only within the period."""
    await run_turns(api, admin, "one", whole(part("m", 1, 0, 0, 0)), whole(part("m", 10, 0, 0, 0)))
    async with await connect(api.database_url) as conn:
        await conn.execute("update turn_usage set ended_at = '2026-01-01T23:30:00Z' where input_tokens = 1")
        await conn.execute("update turn_usage set ended_at = '2026-01-02T03:00:00Z' where input_tokens = 10")
    span = "since=2026-01-01T00:00:00Z&until=2026-01-03T00:00:00Z"

    async def days(query: str) -> dict[str, int]:
        report = await call_api(admin, "GET", f"/v1/usage?{query}")
        return {group["key"]: group["input_tokens"] for group in report["groups"]}

    assert await days(span) == {"2026-01-01": 1, "2026-01-02": 10}
    assert await days(f"{span}&time_zone=Europe/Berlin") == {"2026-01-02": 11}
    assert await days(f"{span}&limit=1") == {"2026-01-02": 10}, "the last days"
    assert await days("since=2026-01-02T00:00:00Z&until=2026-01-02T03:00:00Z") == {}


@cases(
    "query",
    [
        "by=colour",
        "limit=0",
        "time_zone=Mars",
        "time_zone=../../etc",
        "since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z",
    ],
)
async def test_a_bad_question_is_rejected(admin, query):
    """An unknown group, time zone or an empty period is an error in the answer."""
    await call_api(admin, "GET", f"/v1/usage?{query}", status=400)


async def test_a_cost_is_estimated_by_the_prices_of_the_day(api, admin):
    """Without a cost of the CLI, the longest pattern's newest prices of that day count; they stay on the row."""
    day = datetime.now(UTC).date()

    async def price(pattern: str, usd: float, **fields: object) -> dict:
        body = {"pattern": pattern, "input_usd": usd, "output_usd": 2 * usd, **fields}
        return await call_api(admin, "PUT", "/v1/prices", body)

    long_ago, tomorrow = (day - timedelta(days=400)).isoformat(), (day + timedelta(days=1)).isoformat()
    await price("*", 100.0, valid_from=long_ago)
    await price("gpt_5*", 7.0, valid_from=long_ago)
    await price("GPT-5*", 1.0, valid_from=long_ago)
    newest = await price("gpt-5*", 3.0, cache_read_usd=0.5, cache_write_usd=4.0)
    await price("gpt-5*", 50.0, valid_from=tomorrow)
    [turn, reported] = await run_turns(
        api,
        admin,
        "one",
        whole(part("gpt-5.4[1m]", 1_000_000, 2_000_000, 4_000_000, 500_000)),
        whole(part("gpt-5.4", 1_000_000, 0, 0, 0, cost=0.01)),
    )
    report = await call_api(admin, "GET", "/v1/usage?by=turn")
    costs = {group["key"]: (group["cost_usd"], group["estimated_usd"]) for group in report["groups"]}
    assert costs[turn["id"]] == pytest.approx((3.0 + 12.0 + 2.0 + 2.0, 19.0))
    assert costs[reported["id"]] == (0.01, 0), "the CLI's own cost is no estimate"
    await call_api(admin, "DELETE", f"/v1/prices/{newest['id']}")
    assert (await call_api(admin, "GET", "/v1/usage"))["total"]["estimated_usd"] == pytest.approx(19.0)
    [line, _] = csv.DictReader(io.StringIO((await api.http.get("/v1/usage/export", headers=admin.headers)).text))
    kept = {"pattern": "gpt-5*", "valid_from": day.isoformat(), "input_usd": 3, "output_usd": 6}
    assert json.loads(line["prices"]) == {**kept, "cache_read_usd": 0.5, "cache_write_usd": 4}
    actions = [(action, detail["pattern"]) for action, detail in await audit_entries(api, "price.%")]
    assert actions[-2:] == [("price.set", "gpt-5*"), ("price.deleted", "gpt-5*")]


async def test_new_prices_count_for_usage_without_a_cost(api, admin):
    """Prices that come later estimate what had no cost since their day, and change nothing else."""
    await run_turns(api, admin, "one", whole(part("m", 1_000_000, 0, 0, 0)), whole(part("n", 5, 0, 0, 0, cost=1.0)))
    body = {"pattern": "*", "input_usd": 2.0, "output_usd": 0}
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    assert (await call_api(admin, "PUT", "/v1/prices", {**body, "valid_from": tomorrow}))["estimated"] == 0
    assert (await call_api(admin, "PUT", "/v1/prices", body))["estimated"] == 1
    assert (await call_api(admin, "PUT", "/v1/prices", {**body, "input_usd": 9.0}))["estimated"] == 0
    total = (await call_api(admin, "GET", "/v1/usage"))["total"]
    assert (total["cost_usd"], total["estimated_usd"], total["unpriced_tokens"]) == (3.0, 2.0, 0)
    listed = (await call_api(admin, "GET", "/v1/prices"))["prices"]
    assert [(price["valid_from"] == tomorrow, price["input_usd"]) for price in listed] == [(True, 2.0), (False, 9.0)]
    operator = Operator(api, await api.operator(Role.OPERATOR))
    await call_api(operator, "PUT", "/v1/prices", body, 403)
    for bad in ({"pattern": " "}, {"input_usd": -1}, {"valid_from": "2026-02-31"}, {"input_usd": 1e9}):
        await call_api(admin, "PUT", "/v1/prices", {**body, **bad}, 422)


async def test_a_bad_usage_harms_only_itself(api, admin):
    """Whatever stands in a row's usage, the turn ends and the report is read."""
    [turn] = await run_turns(api, admin, "one", whole(part("m", 1, 0, 0, 0)))
    bad = [
        {"models": [{"model": "x", "input_tokens": "many"}, 7, None], "cost_usd": []},
        {"models": {"a": 1}, "input_tokens": -5},
        [1, 2],
        {"models": [{"model": "y" * 400, "input_tokens": 1e300, "cost_usd": 1e300}]},
        {"models": [{"model": "z", "input_tokens": 3}] * 50},
    ]
    async with await connect(api.database_url) as conn:
        for usage in bad:
            cursor = await conn.execute(
                """insert into commands (agent_id, text, requested_by_name, state, usage)
                   select agent_id, text, '', 'running', %s from commands where id = %s returning id""",
                [json.dumps(usage), turn["id"]],
            )
            row = await cursor.fetchone()
            assert row is not None
            cursor = await conn.execute("update commands set state = 'lost' where id = %s", [row["id"]])
            assert cursor.rowcount == 1
        await conn.execute("alter table turn_usage add constraint full_disk check (false) not valid")
    [unstored] = await run_turns(api, admin, "two", whole(part("m", 1, 0, 0, 0)))
    assert (await admin.read(unstored))["state"] == "succeeded"
    total = (await call_api(admin, "GET", "/v1/usage"))["total"]
    assert (total["turns"], total["input_tokens"]) == (3, 2**53), "the sum is at its bound"
    groups = (await call_api(admin, "GET", "/v1/usage?by=model"))["groups"]
    assert {group["name"]: group["input_tokens"] for group in groups} == {"m": 1, "z": 150, "y" * 128: 2**53}
