"""Schedules over the REST API and the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.agents import Operator, agent_running
from support.api_calls import audit_entries, call_api
from support.cases import cases
from support.command_line import CommandLine
from support.server import Api

from onsembl.protocol.states import Role

LATER = (datetime.now(UTC) + timedelta(days=2)).isoformat()
NIGHTLY = {
    "name": "nightly",
    "target": {"agents": ["one"]},
    "text": "make test",
    "cron": "30 2 * * *",
    "time_zone": "Europe/Berlin",
}
PATH = "/v1/schedules"


@pytest.fixture
async def operator(api: Api) -> Operator:
    return Operator(api, await api.operator(Role.OPERATOR))


async def test_a_schedule_is_made_changed_paused_and_removed(api, operator):
    """An operator creates, changes, pauses and deletes a schedule, with audit entries; a viewer and an outdated
    revision are rejected."""
    await api.enrol("one", "claude")
    made = await call_api(operator, "POST", PATH, NIGHTLY, 201)
    assert (made["revision"], made["last"], made["paused_at"]) == (1, None, None)
    assert made["next_at"] is not None
    await call_api(operator, "POST", PATH, {**NIGHTLY, "name": "NIGHTLY"}, 409)
    twice = [
        await call_api(operator, "POST", PATH, {**NIGHTLY, "name": "x"}, 201, **{"Idempotency-Key": "k"}) for _ in "ab"
    ]
    assert twice[0]["id"] == twice[1]["id"]
    await call_api(operator, "DELETE", f"{PATH}/{twice[0]['id']}")
    path = f"{PATH}/{made['id']}"
    once = {"name": "once", "target": {"all": True}, "preset": "review", "priority": 2, "at": LATER, "revision": 1}
    changed = await call_api(operator, "PUT", path, once)
    assert datetime.fromisoformat(changed["next_at"]) == datetime.fromisoformat(LATER)
    assert (changed["text"], changed["preset"], changed["cron"], changed["revision"]) == (None, "review", None, 2)
    await call_api(operator, "PUT", path, {**once, "revision": 1}, 409)
    paused = await call_api(operator, "POST", path + "/pause", {})
    assert (paused["next_at"], paused["paused_by_name"]) == (None, "operator@example.org")
    assert (await call_api(operator, "PUT", path, {**NIGHTLY}))["next_at"] is None
    assert (await call_api(operator, "POST", path + "/resume", {}))["next_at"] == made["next_at"]
    viewer = Operator(api, await api.operator(Role.VIEWER))
    assert [row["name"] for row in (await call_api(viewer, "GET", PATH))["schedules"]] == ["nightly"]
    for method, where, body in (("POST", PATH, NIGHTLY), ("DELETE", path, None), ("POST", path + "/run", {})):
        await call_api(viewer, method, where, body, 403)
    await call_api(operator, "DELETE", path)
    for method in ("GET", "DELETE"):
        await call_api(operator, method, path, None, 404)
    events = [event for event in await audit_entries(api, "schedule.%") if event[1].get("name") != "x"]
    assert [action.partition(".")[2] for action, _ in events] == [
        "created",
        "changed",
        "paused",
        "changed",
        "resumed",
        "deleted",
    ]
    assert events[1][1]["cron"] == ["30 2 * * *", None]


@cases(
    ("change", "status"),
    [
        ({"cron": None}, 422),
        ({"at": LATER}, 422),
        ({"cron": "every day"}, 422),
        ({"cron": "0 0 30 2 *"}, 422),
        ({"time_zone": "Mars/Base"}, 422),
        ({"cron": None, "at": "2020-01-01T00:00:00Z"}, 422),
        ({"cron": None, "at": "2099-01-01T00:00:00"}, 422),
        ({"name": "two words"}, 422),
        ({"text": None}, 422),
        ({"preset": "review"}, 422),
        ({"text": None, "preset": "investigate"}, 422),
        ({"target": {}}, 422),
        ({"target": {"agents": ["nobody"]}}, 404),
        ({"target": {"labels": ["nowhere"]}}, 409),
    ],
)
async def test_what_could_not_be_fired_is_refused(operator, agent, change, status):
    """An invalid schedule is rejected and not stored."""
    await call_api(operator, "POST", PATH, {**NIGHTLY, **change}, status)
    assert (await call_api(operator, "GET", PATH))["schedules"] == []


async def test_a_schedule_is_fired_by_hand_and_its_result_shown(api, operator, tmp_path):
    """A schedule can be run by hand repeatedly, shows each run's result, and keeps its next time."""
    async with agent_running(api, tmp_path):
        made = await call_api(operator, "POST", PATH, {**NIGHTLY, "text": "exit 3"}, 201)
        path = f"{PATH}/{made['id']}"
        fired = await call_api(operator, "POST", path + "/run", {})
        assert fired["next_at"] == made["next_at"]
        command = await operator.until_state({"id": fired["last"]["command_id"]}, "failed")
        assert command["requested_by_name"] == "schedule nightly"
        assert (await call_api(operator, "GET", path))["last"]["counts"] == {"failed": 1}
        await call_api(operator, "POST", path + "/run", {})
        runs = (await call_api(operator, "GET", path + "/runs"))["runs"]
        assert len(runs) == 2 and runs[1]["command_id"] == command["id"]
        assert len((await call_api(operator, "GET", path + "/runs?limit=1"))["runs"]) == 1
    [(_, detail), _] = await audit_entries(api, "schedule.fired")
    assert detail["command_id"] == command["id"]


async def test_a_firing_by_hand_that_is_asked_for_again_with_its_key_is_one(api, operator):
    """A run by hand that is repeated with its key happens once; the key is rejected for another schedule."""
    await api.enrol("one")
    made, other = [await call_api(operator, "POST", PATH, {**NIGHTLY, "name": name}, 201) for name in ("a", "b")]
    key = {"Idempotency-Key": "fire"}
    answers = [await call_api(operator, "POST", f"{PATH}/{made['id']}/run", {}, **key) for _ in range(2)]
    assert answers[0] == answers[1] and answers[0]["last"]["counts"] == {"queued": 1}
    await call_api(operator, "POST", f"{PATH}/{other['id']}/run", {}, 422, **key)
    await call_api(operator, "POST", f"{PATH}/{made['id']}/run", {}, **{"Idempotency-Key": "another"})
    assert len((await call_api(operator, "GET", f"{PATH}/{made['id']}/runs"))["runs"]) == 2


async def test_times_are_told_before_a_schedule_is_made(operator):
    """The next times of an expression can be read before a schedule is created, or the reason why there are none."""
    told = await call_api(operator, "GET", f"{PATH}/times?cron=0+6+*+*+1&time_zone=Asia/Tokyo")
    assert len(told["times"]) == 5 and all(time.endswith("21:00:00Z") for time in told["times"])
    assert (await call_api(operator, "GET", f"{PATH}/times?cron=nonsense"))["problem"] is not None


async def test_schedules_from_the_command_line(api: Api, tmp_path: Path):
    """`onsembl schedules` adds, edits, runs, shows, pauses and deletes schedules."""
    run = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path).run
    await api.enrol("builder", "claude")
    out, _ = await run(
        *("schedules", "add", "nightly", "--agent", "builder", "--text", "make test", "--cron", "30 2 * * *"),
        *("--time-zone", "Europe/Berlin"),
    )
    assert out.startswith("Schedule nightly is saved; next run: ")
    await run("schedules", "add", "soon", "--all", "--preset", "review", "--set", "most=3", "--at", "2h")
    await run("schedules", "edit", "nightly", "--priority", "2", "--cron", "0 3 * * *", "--label", "none", code=1)
    await run("schedules", "edit", "nightly", "--priority", "2", "--cron", "0 3 * * *")
    shown = json.loads((await run("schedules", "show", "nightly", "--json"))[0])
    assert (shown["priority"], shown["cron"], shown["text"], shown["time_zone"]) == (
        2,
        "0 3 * * *",
        "make test",
        "Europe/Berlin",
    )
    await run("schedules", "run", "soon")
    out, _ = await run("schedules", "list")
    assert "no run yet" in out.splitlines()[0] and "queued" in out.splitlines()[1]
    out, _ = await run("schedules", "show", "soon")
    assert '"most": 3' in out and "  queued  " in out
    await run("schedules", "pause", "nightly")
    assert "paused" in (await run("schedules", "list"))[0]
    await run("schedules", "resume", "nightly")
    await run("schedules", "delete", "nightly")
    _, err = await run("schedules", "show", "nightly", code=1)
    assert "There is no schedule nightly." in err
    assert len((await run("schedules", "times", "0 0 * * *"))[0].splitlines()) == 5
    await run("schedules", "times", "0 0 30 2 *", code=1)
    await run("schedules", "add", "x", "--all", "--text", "a", "--preset", "review", "--at", "2h", code=2)
