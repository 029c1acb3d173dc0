"""SIGKILL of each part while commands are in every state, each on an agent of its own, and while turns of coding agents
are at points of each sort: each command ends in the right state and ran once, and no step of a turn is lost."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from chaos.stages import Center, Stage, center_running
from chaos.turns import bring_all, environment, stages_at, surviving
from support.agents import FINAL, sleepers, until
from support.api_calls import call_api
from support.missing_guards import remove_from_function, without

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.fleet.commands import CommandContent, send
from onsembl.protocol.ids import AgentId
from onsembl.sql.audit import Actor
from onsembl.sql.database import connect

VICTIMS = {
    "the worker": ("worker",),
    "the API": ("api",),
    "Postgres": ("postgres",),
    "everything": ("worker", "api", "postgres"),
}

Afterwards = Callable[[], Awaitable[None]]
Point = Callable[[Stage], Awaitable[tuple[list[dict], str, Afterwards]]]
"""Brings commands to a point. Returns the commands, their expected final state, and an action for after the kill."""


async def waits_in_the_queue(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    first, second = await stage.send(stage.wait_script()), await stage.send()
    await stage.operator.until_state(first, "running")
    assert await stage.state_of(second) == "queued"

    async def afterwards() -> None:
        stage.file("go").touch()

    return [first, second], "succeeded", afterwards


async def waits_for_its_agent(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    await stage.agent.stop()

    async def is_offline() -> bool:
        return (await call_api(stage.operator, "GET", f"/v1/agents/{stage.agent.id}"))["status"] == "offline"

    await until(is_offline, "its agent is offline")
    command = await stage.send()
    assert await stage.state_of(command) == "queued"

    async def afterwards() -> None:
        stage.agent = await stage.start_agent()

    return [command], "succeeded", afterwards


async def is_offered(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    stage.agent.process.send_signal(signal.SIGSTOP)
    command = await stage.send()
    await stage.operator.until_state(command, "dispatched")

    async def afterwards() -> None:
        stage.agent.process.send_signal(signal.SIGCONT)

    return [command], "succeeded", afterwards


async def has_started_unreported(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    stage.link.muted = True
    command = await stage.send(stage.wait_script())
    await stage.exists("ran")
    assert await stage.state_of(command) == "dispatched"

    async def afterwards() -> None:
        stage.link.cut()
        stage.link.muted = False
        stage.file("go").touch()

    return [command], "succeeded", afterwards


async def runs(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    command = await stage.send(stage.wait_script())
    await stage.operator.until_state(command, "running")
    await stage.exists("ran")

    async def afterwards() -> None:
        stage.file("go").touch()

    return [command], "succeeded", afterwards


async def is_being_cancelled(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    """The command ignores SIGINT, so the escalation takes a while."""
    command = await stage.send("trap '' INT; while true; do sleep 0.1; done")
    await stage.operator.until_state(command, "running")
    await stage.exists("ran")
    await stage.operator.cancel(command)

    async def has_a_step() -> bool:
        return bool((await stage.operator.read(command))["cancel_step"])

    await until(has_a_step, "the first step of the escalation")

    async def afterwards() -> None:
        pass

    return [command], "cancelled", afterwards


async def has_ended_unreported(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    command = await stage.send(stage.wait_script())
    await stage.operator.until_state(command, "running")
    stage.link.sever()
    stage.file("go").touch()
    await stage.exists("ended")

    async def afterwards() -> None:
        stage.link.mend()

    return [command], "succeeded", afterwards


async def has_ended_unacknowledged(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    command = await stage.send(stage.wait_script())
    await stage.operator.until_state(command, "running")
    stage.link.drop_answers()
    stage.file("go").touch()
    await stage.operator.until_state(command, "succeeded")

    async def afterwards() -> None:
        stage.link.cut()
        stage.link.mend()

    return [command], "succeeded", afterwards


async def is_promoted_undispatched(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    """The API died between promotion and dispatch. The worker would recover it soon, so this point comes last."""
    agent_id = AgentId(UUID(stage.agent.id))
    ann = Actor("operator", uuid4(), "ann", "127.0.0.1")
    async with await connect(stage.operator.api.database_url) as conn:
        row = (
            await send(conn, CommandContent(text=f"echo x >> {stage.file('ran')}", priority=5), agent_id, ann)
        ).command
        assert row is not None and row["state"] == "dispatched"
        await conn.commit()

    async def afterwards() -> None:
        pass

    return [{"id": str(row["id"])}], "succeeded", afterwards


POINTS: list[Point] = [
    waits_in_the_queue,
    waits_for_its_agent,
    is_offered,
    has_started_unreported,
    runs,
    is_being_cancelled,
    has_ended_unreported,
    has_ended_unacknowledged,
]
LAST_POINT = is_promoted_undispatched
TURNS = {
    "claude": ("tool result on its way", "tool begun"),
    "codex": ("steered", "interrupt sent"),
    "acp": ("tool result on its way",),
}
"""The points of turns, by the kind of their agent."""
KILLED_AGENTS = frozenset({"tool begun"})
"""The points at which the agent is killed, too."""


async def kill_at(center: Center, stages: dict[Point, Stage], victims: str) -> None:
    """Bring commands to each point, kill the parts, and check that each command ends right and ran once."""
    for stage in stages.values():
        stage.victims = victims
    early = [point for point in stages if point is not LAST_POINT]
    prepared = dict(zip(early, await asyncio.gather(*(point(stages[point]) for point in early)), strict=True))
    if LAST_POINT in stages:
        prepared[LAST_POINT] = await LAST_POINT(stages[LAST_POINT])
    for victim in VICTIMS[victims]:
        await center.kill(victim)
    await center.ready()
    for _, _, afterwards in prepared.values():
        await afterwards()
    for point, (commands, wanted, _) in prepared.items():
        where = f"{point.__name__} when {victims} was killed"
        for command in commands:
            row = await center.operator.until_state(command, *FINAL)
            assert row["state"] == wanted, f"{where}: {row}"
            assert await sleepers(command) == [], where
        ran = stages[point].file("ran").read_text()
        assert ran == "x\n" * len(commands), f"{where}: it ran {len(ran) // 2} times"


EACH_KILL = pytest.param(tuple(VICTIMS), id="each part", marks=pytest.mark.soak)


@pytest.mark.parametrize("kills", [pytest.param(("everything",), id="everything"), EACH_KILL])
@pytest.mark.seconds(20)
@pytest.mark.timeout(600)
async def test_commands_in_every_state_survive_a_kill(
    own_postgres: EmbeddedPostgres, tmp_path: Path, kills: tuple[str, ...]
) -> None:
    """Each command ends in the right state and runs once, whether one part or all parts are killed; turns of coding
    agents survive a kill of everything."""
    async with center_running(own_postgres, tmp_path, **environment(tmp_path)) as center:
        points = [*POINTS, LAST_POINT]
        made = await asyncio.gather(*(center.stage(point.__name__) for point in points))
        stages = dict(zip(points, made, strict=True))
        for victims in kills[:-1]:
            await kill_at(center, stages, victims)
            await asyncio.gather(*(stage.ready() for stage in stages.values()))
        agents = {kind: await stages_at(center, places, kind) for kind, places in TURNS.items()}
        # At once: a link stays muted until the kill is over.
        brought = await asyncio.gather(*(bring_all(stages, f"{kind}-turn") for kind, stages in agents.items()))
        turns = [turn for of_kind in brought for turn in of_kind]
        async with surviving(turns, kills[-1], KILLED_AGENTS):
            await kill_at(center, stages, kills[-1])


AGENT_WITHOUT_JOURNAL = """
from onsembl.agent.link.journal import Journal

Journal.accepted = Journal.end = lambda self, *_: None
"""


async def test_a_second_run_of_a_command_is_detected(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """An agent without a journal runs a command again when it is offered again, and the check fails."""
    async with center_running(own_postgres, tmp_path, **without(tmp_path / "guard", AGENT_WITHOUT_JOURNAL)) as center:
        stages: dict[Point, Stage] = {has_started_unreported: await center.stage("forgetful")}
        with pytest.raises(AssertionError, match="it ran 2 times"):
            await kill_at(center, stages, "the API")


@pytest.mark.parametrize("kills", [pytest.param(("the API", "everything"), id="the API, everything"), EACH_KILL])
@pytest.mark.seconds(10)
@pytest.mark.timeout(300)
async def test_a_halt_completes_although_parts_are_killed(
    own_postgres: EmbeddedPostgres, tmp_path: Path, kills: tuple[str, ...]
) -> None:
    """Running and queued commands are cancelled, the agent confirms it, and no command starts until the lift."""
    async with center_running(own_postgres, tmp_path) as center:
        await halt_and_kill(center, kills)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_a_start_during_a_halt_is_detected(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """When a queue moves during a halt, the check fails."""
    async with center_running(own_postgres, tmp_path) as center:
        remove_from_function(
            own_postgres.url(), "promote", "and not exists (select from onsembl.halts where lifted_at is null)"
        )
        with pytest.raises(AssertionError, match=r"== '(queued|cancelled)'"):
            await halt_and_kill(center, ("the API",))


async def halt_and_kill(center: Center, kills: tuple[str, ...]) -> None:
    """Halt while a command runs and another waits, kill, and see all stopped, nothing started, and the lift."""
    operator = center.operator
    stage = await center.stage("halted")

    async def is_stopped() -> bool:
        response = await center.api.http.get("/v1/halt", headers=operator.headers)
        return [agent["state"] for agent in response.json().get("agents", [])] == ["stopped"]

    for number, victims in enumerate(VICTIMS[name] for name in kills):
        began, ran = stage.file(f"began-{number}"), stage.file(f"ran-{number}")
        running = await operator.send(
            stage.agent.id, f"trap '' INT TERM; touch {began}; while true; do sleep 0.1; done"
        )
        waiting = await operator.send(stage.agent.id, f"echo x >> {ran}")
        await stage.exists(f"began-{number}")
        await operator.until_state(running, "running")
        await call_api(operator, "POST", "/v1/halt", {}, 202)
        for victim in victims:
            await center.kill(victim)
        await center.ready()
        await until(is_stopped, "the agent's confirmation")
        assert await sleepers(running) == [], "the halt was confirmed too early"
        for command in (running, waiting):
            assert (await operator.until_state(command, *FINAL))["state"] == "cancelled"
        late = await operator.send(stage.agent.id, f"echo x >> {ran}")
        assert late["state"] == "queued"
        await call_api(operator, "DELETE", "/v1/halt")
        await operator.until_state(late, "succeeded")
        assert ran.read_text() == "x\n"
