"""Limits of commands: set per command, preset and agent, enforced by the agent and, if it fails, by the server."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from support.agents import Operator, agent_running, sleepers, until
from support.api_calls import audit_entries, call_api
from support.asking_agents import AskingAgent
from support.cases import cases
from support.command_line import CommandLine
from support.frames import HELLO, next_message
from support.server import Api, running

from onsembl.fleet.cancel import stop_overdue
from onsembl.protocol.ids import CommandId, InstanceId
from onsembl.protocol.limits import sent
from onsembl.protocol.overdue import LimitObserver
from onsembl.protocol.states import AgentKind, Role
from onsembl.protocol.stop_timeouts import StopTimeouts
from onsembl.sql import commands, instances
from onsembl.sql.database import connect


@pytest.fixture
async def admin(api: Api) -> Operator:
    return Operator(api, await api.operator())


class Looks:
    """A worker's looks at the commands with limits, by a clock that the test sets."""

    def __init__(self, api: Api, *, grace: float) -> None:
        self._pool = api.services.pool
        self._observer = LimitObserver(grace, instances.GAP_SECONDS)
        self._at = -5.0

    async def __call__(self, at: float, *, heartbeats: bool = True) -> int:
        """Look at this time, and stop what is overdue; with `heartbeats`, each instance has written one since."""
        self._at = at
        async with self._pool.connection() as conn:
            if heartbeats:
                await conn.execute("update instances set address = address")
                await conn.commit()
            return await stop_overdue(conn, self._observer.look(at, at, await commands.limited(conn)))

    async def until(self, end: float, *, heartbeats: bool = True) -> int:
        """Look every 5 s until this time; return how many commands were stopped."""
        stopped = 0
        while self._at < end:
            stopped += await self(self._at + 5.0, heartbeats=heartbeats)
        return stopped


async def test_a_command_past_its_limit_has_timed_out(api, admin, tmp_path):
    """A command that exceeds a limit ends as timed out, its row names the limit, and the next command runs."""
    async with agent_running(api, tmp_path) as agent:
        command = await admin.send(agent.id, "sleep 1000", limits={"work_seconds": 1, "idle_seconds": 500})
        after = await admin.send(agent.id, "true")
        row = await admin.until_state(command, "timed_out")
        assert (row["limit_passed"], row["error"]) == ("work_seconds", "Stopped: it worked for more than 1 s.")
        assert row["cancel_requested_at"] is None
        assert await sleepers(command) == []
        assert (await admin.until_state(after, "succeeded"))["limit_passed"] is None
    [detail] = [detail for action, detail in await audit_entries(api, "command.ended") if detail.get("limit")]
    assert (detail["state"], detail["limit"]) == ("timed_out", "work_seconds")


async def test_the_narrowest_limit_is_in_force(api, admin):
    """A command's limit takes precedence over its preset's, and no limit exceeds the agent's."""
    agent = await api.enrol()
    path = f"/v1/agents/{agent.id}"
    limited = await call_api(admin, "PUT", path + "/limits", {"work_seconds": 600, "tokens": 1000})
    assert limited["limits"] == {"work_seconds": 600, "tokens": 1000}
    preset = {"template": "go", "limits": {"work_seconds": 60, "idle_seconds": 30, "cost_usd": 2.5}}
    await call_api(admin, "PUT", "/v1/presets/brief", preset)
    wanted = {"preset": "brief", "limits": {"work_seconds": 3600, "tokens": 50}}
    asked = await call_api(admin, "POST", path + "/commands", wanted, 201)
    assert asked["limits"] == {"work_seconds": 3600, "idle_seconds": 30, "tokens": 50, "cost_usd": 2.5}
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps(HELLO))
        offer = await next_message(socket, "offer")
        assert offer["limits"] == {"work_seconds": 600, "idle_seconds": 30, "tokens": 50, "cost_usd": 2.5}
        assert (await admin.read(asked))["limits"] == offer["limits"]
    [(_, detail)] = await audit_entries(api, "agent.limited")
    assert detail["limits"] == limited["limits"]


async def test_limits_go_with_groups_schedules_and_edits(api, admin):
    """Groups, schedules and edits of a command accept limits."""
    await api.enrol()
    limits, everyone = {"tokens": 10}, {"target": {"all": True}}
    group = await call_api(admin, "POST", "/v1/groups", {"text": "go", "limits": limits, **everyone}, 201)
    [command] = group["commands"]
    assert (group["limits"], command["limits"]) == (limits, limits)
    schedule = {"name": "nightly", "text": "go", "limits": limits, "cron": "0 0 29 2 *", **everyone}
    made = await call_api(admin, "POST", "/v1/schedules", schedule, 201)
    assert made["limits"] == limits
    await call_api(admin, "POST", f"/v1/schedules/{made['id']}/run", {})
    newest = (await call_api(admin, "GET", "/v1/commands"))["commands"][0]
    assert (newest["id"] != command["id"], newest["limits"]) == (True, limits)
    edited = await call_api(admin, "PATCH", f"/v1/commands/{command['id']}", {"limits": {"work_seconds": 5}})
    assert edited["limits"] == {"work_seconds": 5}
    [(_, detail)] = await audit_entries(api, "command.edited")
    assert detail == {"limits": [limits, {"work_seconds": 5}]}


@cases("bad", [{"work_seconds": 0}, {"idle_seconds": -1}, {"tokens": "many"}, {"seconds": 5}])
async def test_what_is_no_limit_is_refused(admin, agent, bad):
    """An invalid limit is rejected, and no command is sent."""
    await call_api(admin, "POST", f"/v1/agents/{agent.id}/commands", {"text": "go", "limits": bad}, 422)
    await call_api(admin, "PUT", f"/v1/agents/{agent.id}/limits", bad, 422)
    assert (await call_api(admin, "GET", "/v1/commands"))["commands"] == []


async def test_an_agents_limits_are_an_admins_to_set(api, admin):
    """Only an admin sets an agent's limits, because they bind operators."""
    agent = await api.enrol()
    operator = Operator(api, await api.operator(Role.OPERATOR))
    await call_api(operator, "PUT", f"/v1/agents/{agent.id}/limits", {}, 403)
    await call_api(admin, "PUT", "/v1/agents/00000000-0000-4000-8000-000000000000/limits", {}, 404)


@pytest.mark.parametrize(
    ("limits", "passed"),
    [
        ({"work_seconds": 1}, "work_seconds"),
        ({"idle_seconds": 1}, "idle_seconds"),
        ({"tokens": 9}, "tokens"),
        ({"cost_usd": 0.03}, "cost_usd"),
        ({"waiting_seconds": 1}, "waiting_seconds"),
    ],
)
async def test_the_server_stops_what_its_agent_does_not(api, admin, limits, passed):
    """The server cancels a command past its limit if its agent does not know limits, and the command has timed out. A
    cost that the CLI does not report is estimated by the prices."""
    agent = await api.enrol()
    await call_api(admin, "PUT", "/v1/prices", {"pattern": "m", "input_usd": 10_000, "output_usd": 0})
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps({**HELLO, "takes_answers": True, "tells_work_clock": True}))
        command = await admin.send(agent.id, "go on", limits=limits)
        await next_message(socket, "offer")
        about = {"command_id": command["id"]}
        now = datetime.now(UTC).isoformat()
        await socket.send(json.dumps({"type": "accepted", **about, "started_at": now, "output_start": 0}))
        if passed == "waiting_seconds":
            await AskingAgent(agent, socket, command).ask()
        usage = {"model": "m", "input_tokens": 4, "cache_write_tokens": 6}
        await socket.send(json.dumps({"type": "used", **about, "usage": usage}))

        async def known() -> bool:
            return (await admin.read(command))["usage"] is not None

        await until(known, "what it used")
        look = Looks(api, grace=30.0)
        assert [await look(at) for at in (0.0, 10.0, 20.0, 29.0)] == [0] * 4
        assert await look(31.0) == 1
        cancel = await next_message(socket, "cancel")
        assert (cancel["command_id"], cancel["limit"]) == (command["id"], sent(passed))
        assert cancel["reason"].startswith("Past its limit: ")
        assert await look(40.0) == 0
        await socket.send(json.dumps({"type": "ended", **about, "outcome": "cancelled", "ended_at": now}))
        row = await admin.until_state(command, "timed_out")
        assert (row["limit_passed"], row["usage"]["input_tokens"]) == (passed, 4)
    [(_, detail)] = await audit_entries(api, "command.limit_passed")
    assert detail == {"limit": passed, "limits": limits}


async def test_the_server_counts_as_its_agent_does(api, admin):
    """The server stops no command that only waits for a person, and one of an agent of an earlier release, which does
    not say so, not while a request is open. That agent does not know the limit, and is told none."""
    agent = await api.enrol()
    limits = {"work_seconds": 1}
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps({**HELLO, "takes_answers": True}))
        command = await admin.send(agent.id, "go on", limits=limits)
        await next_message(socket, "offer")
        about = {"command_id": command["id"]}
        now = datetime.now(UTC).isoformat()
        await socket.send(json.dumps({"type": "accepted", **about, "started_at": now, "output_start": 0}))
        await AskingAgent(agent, socket, command).ask()

        async def waits(*, still: bool | None) -> bool:
            async with await connect(api.database_url, role="onsembl_api") as conn:
                found = (await commands.limited(conn)).get(CommandId(UUID(command["id"])))
                return found is not None and found.oldest_request is not None and found.stands_still is still

        await until(lambda: waits(still=True), "the request")
        look = Looks(api, grace=30.0)
        assert await look.until(500.0) == 0
        for still, waited in ((False, 3.0), (True, 3.0)):
            state = {"type": "work_clock", **about, "stands_still": still, "stood_still_seconds": waited}
            await socket.send(json.dumps(state))
            await until(lambda still=still: waits(still=still), "its clock")
        assert await look.until(1000.0) == 0
        await socket.send(json.dumps({**state, "stands_still": False}))
        await until(lambda: waits(still=False), "its clock")
        assert await look.until(1050.0) == 1
        cancel = await next_message(socket, "cancel")
        assert (cancel["reason"], cancel["limit"]) == ("Past its limit: it worked for more than 1 s.", None)


async def test_the_old_name_of_a_limit_is_read(api, admin):
    """Requests and rows of the release before have `wall_seconds`, and its agents report it: it is `work_seconds`."""
    agent = await api.enrol()
    sent_so = {"text": "go", "limits": {"wall_seconds": 60}}
    command = await call_api(admin, "POST", f"/v1/agents/{agent.id}/commands", sent_so, 201)
    assert command["limits"] == {"work_seconds": 60}
    async with await connect(api.database_url) as conn:
        await conn.execute('update agents set limits = \'{"wall_seconds": 9, "work_seconds": 20, "tokens": 5}\'')
    shown = await call_api(admin, "GET", f"/v1/agents/{agent.id}")
    assert shown["limits"] == {"work_seconds": 9, "tokens": 5}
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps(HELLO))
        assert (await next_message(socket, "offer"))["limits"] == {"work_seconds": 9, "tokens": 5}
        now = datetime.now(UTC).isoformat()
        about = {"command_id": command["id"], "limit": "wall_seconds"}
        await socket.send(json.dumps({"type": "accepted", **about, "started_at": now, "output_start": 0}))
        stage = {"type": "cancel_step", **about, "step": "interrupt", "at": now, "processes_left": 1}
        await socket.send(json.dumps(stage))
        await socket.send(json.dumps({"type": "ended", **about, "outcome": "timed_out", "ended_at": now}))
        row = await admin.until_state(command, "timed_out")
    assert (row["limit_passed"], row["cancel_step"]["limit"]) == ("work_seconds", "work_seconds")


async def test_the_server_stops_nothing_whose_silence_has_another_reason(api, admin):
    """The server cancels no command because of a wrong clock, its own or the agent's, an agent that is offline or just
    back, or output that an instance could not archive."""
    agent = await api.enrol()
    limits = {"work_seconds": 3000, "idle_seconds": 600}
    look = Looks(api, grace=30.0)
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps(HELLO))
        command = await admin.send(agent.id, "go on", limits=limits)
        await next_message(socket, "offer")
        slow = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
        accepted = {"command_id": command["id"], "started_at": slow, "output_start": 0}
        await socket.send(json.dumps({"type": "accepted", **accepted}))
        await admin.until_state(command, "running")
        assert await look.until(0.0) == 0
        async with await connect(api.database_url) as conn:  # as if the database's clock had jumped
            for table, columns in (
                ("agents", ("connected_at",)),
                ("instances", ("heartbeat_at", "reached_since")),
                ("commands", ("created_at", "dispatched_at", "started_at")),
            ):
                changes = ", ".join(f"{column} = {column} - interval '2 hours'" for column in columns)
                await conn.execute(f"update {table} set {changes}")
        assert await look.until(600.0) == 0
        async with await connect(api.database_url, role="onsembl_api") as conn:
            # The first one after the jump, with which it counts as newly reached; its own later ones do not.
            [instance] = await (await conn.execute("select id, address from instances")).fetchall()
            await instances.heartbeat(conn, InstanceId(instance["id"]), instance["address"])

    async def offline() -> bool:
        return (await call_api(admin, "GET", f"/v1/agents/{agent.id}"))["status"] == "offline"

    await until(offline, "offline")
    assert await look.until(1200.0) == 0
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps({**HELLO, "tells_work_clock": True, "running": [accepted]}))
        await next_message(socket, "welcome")
        assert await look.until(1800.0, heartbeats=False) == 0
        assert await look.until(2420.0) == 0  # the instance may have written a heartbeat of its own at 1795 s
        assert await look.until(2455.0) == 1
        assert (await next_message(socket, "cancel"))["limit"] == "idle_seconds"


async def test_what_was_used_is_known_of_a_command_that_was_lost(api, admin):
    """A lost command keeps the usage that its agent reported before."""
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps(HELLO))
        command = await admin.send(agent.id, "go on")
        await next_message(socket, "offer")
        about = {"command_id": command["id"]}
        now = datetime.now(UTC).isoformat()
        await socket.send(json.dumps({"type": "accepted", **about, "started_at": now, "output_start": 0}))
        await socket.send(json.dumps({"type": "used", **about, "usage": {"output_tokens": 12}}))

        async def known() -> bool:
            return (await admin.read(command))["usage"] is not None

        await until(known, "what it used")
    async with api.agent_socket(agent) as socket:
        await socket.send(json.dumps(HELLO))
        row = await admin.until_state(command, "lost")
        assert (row["usage"]["output_tokens"], row["output_start"], row["output_end"]) == (12, 0, 0)
    assert [detail["state"] for _, detail in await audit_entries(api, "command.ended")] == ["lost"]


async def test_a_kind_of_agent_has_stop_timeouts_of_its_own(settings, tmp_path):
    """Stop timeouts that the server sets for a kind of agent apply to this kind only."""
    times = {AgentKind.SHELL: StopTimeouts(interrupt=0.1, sigterm=0.2)}
    async with running(replace(settings, cancel_times=times)) as api:
        admin = Operator(api, await api.operator())
        shell, claude = await api.enrol("one"), await api.enrol("two", "claude")
        for agent, kind in ((shell, "shell"), (claude, "claude")):
            async with api.agent_socket(agent) as socket:
                await socket.send(json.dumps({**HELLO, "kind": kind}))
                said = (await next_message(socket, "welcome"))["cancel_times"]
                assert (said or {}).get("interrupt") == (0.1 if kind == "shell" else None)
        async with agent_running(api, tmp_path, "three") as agent:
            command = await admin.send(agent.id, "trap '' INT TERM; sleep 1000; sleep 1000")
            await until(lambda: sleepers(command), "the sleeper")
            await admin.cancel(command)
            await admin.until_state(command, "cancelled")
            assert await sleepers(command) == []
        steps = await audit_entries(api, "command.cancel_step")
    stages = {detail["step"]: datetime.fromisoformat(detail["at"]) for _, detail in steps}
    assert (stages["sigkill"] - stages["interrupt"]).total_seconds() < 10  # The default stop timeouts take 15 s.


async def test_limits_at_the_command_line(api, tmp_path):
    """The command line sets limits, with durations such as `2h` and `90s`, and rejects an invalid duration."""
    await api.enrol()
    admin = await api.operator()
    line = CommandLine(api, admin, tmp_path)
    limits = (
        "--work-time",
        "2h",
        "--idle-time",
        "90s",
        "--waiting-time",
        "8h",
        "--max-tokens",
        "5000",
        "--max-cost",
        "2.5",
    )
    [command] = json.loads((await line.run("send", "--agent", "one", "--json", *limits, "go"))[0])
    assert command["limits"] == {
        "work_seconds": 7200,
        "idle_seconds": 90,
        "waiting_seconds": 28_800,
        "tokens": 5000,
        "cost_usd": 2.5,
    }
    edited = json.loads((await line.run("commands", "edit", command["id"], "--wall-time", "1d", "--json"))[0])
    assert edited["limits"] == {"work_seconds": 86_400}
    assert await line.run("agents", "limit", "one", "--work-time", "30m") == ("one: work seconds 1800\n", "")
    assert await line.run("agents", "limit", "one") == ("one: no limits\n", "")
    _, problem = await line.run("send", "--agent", "one", "--work-time", "soon", "go", code=2)
    assert "'soon' is not a duration" in problem
