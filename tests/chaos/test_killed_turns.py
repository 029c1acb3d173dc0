"""SIGKILL of each part at each point of a turn of a coding agent: no step is lost or there twice, each is where the
terminal shows it, and the conversation continues."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from chaos.stages import Center, Stage, center_running
from support.agents import FINAL, until
from support.api_calls import call_api
from support.archive import until_archived
from support.missing_guards import without

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres

CLAUDE = Path(__file__).with_name("walking_claude.py")
BEGIN, TOOL, STEER, END, RESULT = "message", "tool", "input", "message", "result"
WHOLE = [BEGIN, TOOL, END, RESULT]


@dataclass(frozen=True)
class Point:
    """A point of a turn. `at` is where the program waits, and `seen` how many steps the server has by then."""

    at: str
    seen: int = 0
    offered: bool = False
    """The agent has not taken the offer."""
    muted: bool = False
    """The server has not got what the agent reports."""
    unacknowledged: bool = False
    """The server has the end, and the agent does not know it."""
    kinds: tuple[str, ...] = tuple(WHOLE)
    state: str = "succeeded"


POINTS = {
    "offered": Point("nowhere", offered=True),
    "accepted": Point("started", muted=True),
    "started": Point("started"),
    "first text": Point("first_text", seen=1),
    "tool begun": Point("tool_begun", seen=2),
    "tool result": Point("tool_result", seen=2),
    "tool result on its way": Point("tool_result", muted=True),
    "steered": Point("steered", seen=3, kinds=(BEGIN, TOOL, STEER, END, RESULT)),
    "interrupt sent": Point("interrupted", seen=2, kinds=(BEGIN, TOOL, RESULT), state="cancelled"),
    "result seen": Point("result_seen", seen=4),
    "end on its way": Point("result_seen", muted=True),
    "end reported": Point("nowhere", seen=4, unacknowledged=True),
}


@dataclass
class Turn:
    """A turn that the test has brought to its point."""

    point: str
    stage: Stage
    name: str
    command: dict
    seen: list[dict] = field(default_factory=list)
    """The steps that the server has shown before the kill."""

    @property
    def place(self) -> Point:
        return POINTS[self.point]

    def file(self, what: str) -> Path:
        return self.stage.folder / "stages" / f"{self.name}.{what}"

    async def steps(self) -> list[dict]:
        listed = await call_api(self.stage.operator, "GET", f"/v1/commands/{self.command['id']}/steps")
        return sorted(listed["steps"], key=lambda step: step["number"])


def exists(path: Path) -> Callable[[], Awaitable[bool]]:
    async def exists() -> bool:
        return path.exists()

    return exists


async def bring(stage: Stage, point: str, name: str) -> Turn:
    """Send a prompt, and wait until its turn is at the point."""
    place = POINTS[point]
    await stage.connected()
    if place.offered:
        stage.agent.process.send_signal(signal.SIGSTOP)
    stage.link.muted = place.muted
    command = await stage.operator.send(stage.agent.id, f"{name} {place.at}")
    turn = Turn(point, stage, name, command)
    if place.offered:
        turn.command = await stage.operator.until_state(command, "dispatched")
        return turn
    if place.unacknowledged:
        await stage.operator.until_state(command, "running", *FINAL)
        stage.link.drop_answers()
    elif place.at == "steered":
        await until(exists(turn.file("waits")), "the program waits for a text")
        steer = {"text": "a further text", "steer": True, "conversation": "latest"}
        await call_api(stage.operator, "POST", f"/v1/agents/{stage.agent.id}/commands", steer, 201)
    elif place.at == "interrupted":
        await until_seen(turn)
        await stage.operator.cancel(command)
    if place.at != "nowhere":
        await until(exists(turn.file("at")), f"the turn is at {point}")
    if not place.muted:
        await until_seen(turn)
    return turn


async def until_seen(turn: Turn) -> None:
    async def are_seen() -> bool:
        turn.seen = await turn.steps()
        return len(turn.seen) >= turn.place.seen

    await until(are_seen, f"{turn.place.seen} steps")


async def go_on(turn: Turn, agent_was_killed: bool) -> None:
    """Let the turn, its agent and its link go on after the kill."""
    stage = turn.stage
    turn.file("go").touch()
    if turn.place.muted or turn.place.unacknowledged:
        stage.link.cut()
        stage.link.mend()
        stage.link.muted = False
    if agent_was_killed:
        stage.agent = await stage.start_agent()
    elif turn.place.offered:
        stage.agent.process.send_signal(signal.SIGCONT)


async def check(turn: Turn, agent_was_killed: bool, where: str) -> None:
    """The turn has ended right, has its steps once, each where the terminal shows it, and the next turn knows it."""
    operator, place = turn.stage.operator, turn.place
    row = await operator.until_state(turn.command, *FINAL)
    kept = agent_was_killed and not place.offered and not place.unacknowledged
    states = {place.state, "lost"} if kept else {place.state}
    assert row["state"] in states, f"{where}: {row}"

    async def complete() -> list[dict] | None:
        steps = await turn.steps()
        ended = all(step["ended_at"] is not None for step in steps) and len(steps) >= len(turn.seen)
        return steps if ended and (row["state"] == "lost" or (steps[-1:][0:] and steps[-1]["kind"] == RESULT)) else None

    steps: list[dict] = await until(complete, f"{where}: the last step")  # type: ignore[assignment]
    assert [step["number"] for step in steps] == list(range(1, len(steps) + 1)), where
    kinds = [step["kind"] for step in steps]
    assert kinds == list(place.kinds)[: len(kinds) if row["state"] == "lost" else None], where
    begun = {BEGIN: f"I begin {turn.name}", TOOL: f"echo {turn.name}", STEER: "a further text"}
    for step, kind in zip(steps, place.kinds, strict=False):
        assert begun.get(kind, "") in step["title"] or step["number"] > 1, f"{where}: {step}"
        if kind in (BEGIN, TOOL, STEER):
            shown = await until_archived(operator.api.database_url, row["stream_id"], step["output_end"])
            title = step["title"].removesuffix("…").encode()
            assert title in shown[step["output_start"] : step["output_end"]], f"{where}: {step} is not at its place"
    if turn.file("at").exists():
        pid = int(turn.file("at").read_text())

        async def is_gone() -> bool:
            return not psutil.pid_exists(pid)

        await until(is_gone, f"{where}: the program's end")

    after = await operator.send(turn.stage.agent.id, f"{turn.name}-after nowhere", conversation=row["conversation_id"])
    assert (await operator.until_state(after, *FINAL))["state"] == "succeeded", where
    following = Turn(turn.point, turn.stage, f"{turn.name}-after", after)

    async def has_ended() -> list[dict] | None:
        steps = await following.steps()
        return steps if len(steps) == len(WHOLE) else None

    steps = await until(has_ended, f"{where}: the next turn")  # type: ignore[assignment]
    assert [step["kind"] for step in steps] == WHOLE
    assert turn.name in steps[2]["text"], f"{where}: the next turn does not know it: {steps[2]['text']}"


async def kill_at(center: Center, turns: list[Turn], victims: tuple[str, ...], agents: Set[str] = frozenset()) -> None:
    """Kill the parts, and the agents of the points that are named, and check each turn."""
    for turn in turns:
        if turn.point in agents:
            turn.stage.agent.process.kill()
            await turn.stage.agent.process.wait()
    for victim in victims:
        await center.kill(victim)
    await center.ready()
    await asyncio.gather(*(go_on(turn, turn.point in agents) for turn in turns))
    for turn in turns:
        killed = ", ".join([*victims, *(["its agent"] if turn.point in agents else [])])
        await check(turn, turn.point in agents, f"{turn.point}, when {killed} was killed")


def environment(folder: Path) -> dict[str, str]:
    """That of agents that find the program."""
    (folder / "bin").mkdir()
    (folder / "bin" / "claude").symlink_to(CLAUDE)
    (folder / "stages").mkdir()
    return {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "STAGES": str(folder / "stages"),
        "CLAUDE_CONFIG_DIR": str(folder / "config"),
    }


SHORT = {"tool result on its way": False, "steered": False, "interrupt sent": False, "tool begun": True}
"""The points of the short form, and whether the agent is killed, too."""
PARTS = ("worker", "api", "postgres")


async def stages_at(center: Center, points: Iterable[str]) -> dict[str, Stage]:
    made = await asyncio.gather(*(center.stage(point.replace(" ", "-"), "claude") for point in points))
    return dict(zip(points, made, strict=True))


async def bring_all(stages: Mapping[str, Stage], name: str) -> list[Turn]:
    return await asyncio.gather(
        *(bring(stage, point, f"{name}-{at}") for at, (point, stage) in enumerate(stages.items()))
    )


@pytest.mark.seconds(15)
@pytest.mark.timeout(300)
async def test_turns_survive_a_kill_of_everything(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """At a point of each sort: with a step on its way, a text in the turn, an interrupt, or an agent that dies, too."""
    async with center_running(own_postgres, tmp_path, **environment(tmp_path)) as center:
        turns = await bring_all(await stages_at(center, SHORT), "turn")
        await kill_at(center, turns, PARTS, {point for point, killed in SHORT.items() if killed})


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_turns_survive_a_kill_of_each_part_at_each_point(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """Each part of the control center, and all of them, at each point."""
    async with center_running(own_postgres, tmp_path, **environment(tmp_path)) as center:
        stages = await stages_at(center, POINTS)
        for victims in (("worker",), ("api",), ("postgres",), PARTS):
            await kill_at(center, await bring_all(stages, victims[-1]), victims)


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


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_a_lost_step_is_detected(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """When the agent forgets a step before the server has it, the check fails."""
    guard = without(tmp_path / "guard", AGENT_THAT_TAKES_A_STEP_FOR_RECORDED_WHEN_IT_IS_SENT)
    async with center_running(own_postgres, tmp_path, **environment(tmp_path), **guard) as center:
        turns = await bring_all(await stages_at(center, ["tool result on its way"]), "turn")
        with pytest.raises(AssertionError, match="tool result on its way, when api was killed"):
            await kill_at(center, turns, ("api",))
