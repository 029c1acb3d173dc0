"""SIGKILL of each part at each point of a turn of a coding agent, and at any moment. The short form is in
`test_killed_parts.py`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Set
from pathlib import Path

import pytest
from chaos.stages import Center, center_running
from chaos.turns import KINDS, POINTS, Turn, bring_all, environment, points_of, stages_at, surviving
from support.missing_guards import without

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres

PARTS = ("worker", "api", "postgres")
NONE: frozenset[str] = frozenset()
ROUNDS = 5
LATEST = 0.4
"""How many seconds a turn may have gone on when a part is killed at any moment."""


async def kill_at(center: Center, turns: list[Turn], victims: tuple[str, ...], agents: Set[str] = NONE) -> None:
    """Kill the parts, and the agents of the points that are named, and check each turn."""
    async with surviving(turns, ", ".join(victims), agents):
        await asyncio.gather(*map(center.kill, victims))
        await center.ready()


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
async def test_turns_survive_a_kill_of_each_part_at_each_point(
    own_postgres: EmbeddedPostgres, tmp_path: Path, kind: str
) -> None:
    """Each part of the control center, the agent, and all of them, at each point of a turn of each driver."""
    async with center_running(own_postgres, tmp_path, **environment(tmp_path)) as center:
        stages = await stages_at(center, points_of(kind), kind)
        for name, victims, agents in (
            ("worker", ("worker",), NONE),
            ("api", ("api",), NONE),
            ("postgres", ("postgres",), NONE),
            ("parts", PARTS, NONE),
            ("agent", (), frozenset(POINTS)),
            ("all", PARTS, frozenset(POINTS)),
        ):
            await kill_at(center, await bring_all(stages, f"{kind}-{name}"), victims, agents)


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_turns_survive_kills_at_any_moment(own_postgres: EmbeddedPostgres, tmp_path: Path, seed: int) -> None:
    """Some of the parts and agents, while some of the turns go on from their point."""
    chance = random.Random(seed)
    async with center_running(own_postgres, tmp_path, **environment(tmp_path)) as center:
        stages = await stages_at(center, POINTS)
        for number in range(ROUNDS):
            turns = await bring_all(stages, f"round-{number}")
            for turn in turns:
                if chance.random() < 0.5:
                    turn.file("go").touch()
            await asyncio.sleep(chance.uniform(0, LATEST))
            victims = tuple(part for part in PARTS if chance.random() < 0.4)
            await kill_at(center, turns, victims, {point for point in POINTS if chance.random() < 0.3})


AGENT_THAT_TAKES_A_STEP_FOR_RECORDED_WHEN_IT_IS_SENT = """
from onsembl.agent.link.step_log import StepLog

next_batch = StepLog.next_batch

def recorded_at_once(log):
    batch = next_batch(log)
    if batch is not None:
        log.recorded(batch.command_id, batch.through)
    return batch

StepLog.next_batch = recorded_at_once
"""


AGENT_THAT_STARTS_WITHOUT_THE_STEPS_OF_ITS_EARLIER_RUN = """
from onsembl.agent.link.step_log import StepLog

init = StepLog.__init__

def init_empty(log, folder):
    for file in folder.glob("steps/*"):
        file.unlink()
    init(log, folder)

StepLog.__init__ = init_empty
"""
GUARDS = {
    "api": AGENT_THAT_TAKES_A_STEP_FOR_RECORDED_WHEN_IT_IS_SENT,
    "its agent": AGENT_THAT_STARTS_WITHOUT_THE_STEPS_OF_ITS_EARLIER_RUN,
}


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("killed", GUARDS)
async def test_a_lost_step_is_detected(own_postgres: EmbeddedPostgres, tmp_path: Path, killed: str) -> None:
    """When the agent forgets a step before the server has it, the check fails."""
    guard = without(tmp_path / "guard", GUARDS[killed])
    point = "tool result on its way"
    async with center_running(own_postgres, tmp_path, **environment(tmp_path), **guard) as center:
        turns = await bring_all(await stages_at(center, [point]), "turn")
        victims, agents = (("api",), NONE) if killed == "api" else ((), {point})
        with pytest.raises(AssertionError, match=f"{point}, when {killed} was killed"):
            await kill_at(center, turns, victims, agents)
