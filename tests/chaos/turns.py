"""Turns of a coding agent that a test brings to a point, and what must hold when parts were killed there: no step is
lost or there twice, each is where the terminal shows it, and the conversation continues."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil
from chaos.stages import Center, Stage
from support.agents import FINAL, until
from support.api_calls import call_api
from support.archive import until_archived

from onsembl.protocol.turn_steps import Step

KINDS = {"claude": (), "codex": (), "acp": ("walking-acp",)}
"""Of the agents whose turns are killed, each with its arguments."""
BEGIN, TOOL, STEER, END, RESULT = "message", "tool", "input", "message", "result"
WHOLE = [BEGIN, TOOL, END, RESULT]
LASTING = ("number", "kind", "title", "status", "output_start", "output_end")
"""The fields that a step has for good when it has ended."""


@dataclass(frozen=True)
class Point:
    """A point of a turn. `at` is where the program waits, and `seen` how many steps the agent has on disk by then, and
    the server, too, unless the link is muted."""

    at: str
    seen: int = 0
    ended: bool = False
    """Each of these steps has ended."""
    offered: bool = False
    """The agent has not taken the offer."""
    muted: bool = False
    """The server has not got what the agent reports."""
    unacknowledged: bool = False
    """The agent has not got what the server says."""
    kinds: tuple[str, ...] = tuple(WHOLE)
    state: str = "succeeded"


POINTS = {
    "offered": Point("nowhere", offered=True),
    "accepted": Point("started", muted=True),
    "started": Point("started"),
    "first text": Point("first_text", seen=1),
    "tool begun": Point("tool_begun", seen=2),
    "tool result": Point("tool_result", seen=2, ended=True),
    "tool result on its way": Point("tool_result", seen=2, ended=True, muted=True),
    "steered": Point("steered", seen=3, ended=True, kinds=(BEGIN, TOOL, STEER, END, RESULT)),
    "interrupt sent": Point("interrupted", seen=2, kinds=(BEGIN, TOOL, RESULT), state="cancelled"),
    "result seen": Point("result_seen", seen=4, ended=True),
    "end on its way": Point("result_seen", seen=4, ended=True, muted=True),
    "end reported": Point("result_seen", seen=4, ended=True, unacknowledged=True),
}


@dataclass
class Turn:
    """A turn that the test has brought to its point."""

    point: str
    place: Point
    stage: Stage
    name: str
    command: dict
    seen: list[dict] = field(default_factory=list)
    """The steps that the agent had before the kill."""

    def file(self, what: str) -> Path:
        return self.stage.folder / "stages" / f"{self.name}.{what}"

    async def steps(self) -> list[dict]:
        listed = await call_api(self.stage.operator, "GET", f"/v1/commands/{self.command['id']}/steps")
        return sorted(listed["steps"], key=lambda step: step["number"])

    def agents_steps(self) -> list[dict]:
        """The steps that the agent has on disk, in their newest revision: it keeps them until the server has all."""
        newest: dict[int, dict] = {}
        for file in self.stage.folder.glob(f"agents/*/steps/{self.command['id']}.jsonl"):
            try:
                lines, _, _ = file.read_bytes().rpartition(b"\n")
            except FileNotFoundError:  # the server has them now
                continue
            for line in lines.splitlines()[1:]:  # the first one names the stream
                step = msgspec.json.decode(line, type=Step)
                newest[step.number] = msgspec.structs.asdict(step)
        return list(newest.values())

    async def all_steps(self, where: str) -> list[dict]:
        """The steps that the server has when the turn has ended and the agent has sent them."""

        async def are_sent() -> bool:
            return not self.agents_steps()

        await until(are_sent, f"{where}: the server has the steps")
        return await self.steps()


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
    turn = Turn(point, place, stage, name, command)
    if place.offered:
        turn.command = await stage.operator.until_state(command, "dispatched")
        return turn
    if place.at == "steered":
        await until(exists(turn.file("waits")), "the program waits for a text")
        steer = {"text": "a further text", "steer": True, "conversation": "latest"}
        await call_api(stage.operator, "POST", f"/v1/agents/{stage.agent.id}/commands", steer, 201)
    elif place.at == "interrupted":
        await until_seen(turn)
        await stage.operator.cancel(command)
    if place.at != "nowhere":
        await until(exists(turn.file("at")), f"the turn is at {point}")
    await until_seen(turn)
    if place.unacknowledged:  # from here on: a batch of steps waits until the one before is acknowledged
        stage.link.drop_answers()
        turn.file("go").touch()
        await stage.operator.until_state(command, *FINAL)
    return turn


async def until_seen(turn: Turn) -> None:
    """Wait until the server has the steps of the point or, when the link is muted, the agent has them."""
    place = turn.place

    async def are_seen() -> bool:
        if place.seen:
            turn.seen = turn.agents_steps() if place.muted else await turn.steps()
        return len(turn.seen) >= place.seen and not (place.ended and any(map(is_open, turn.seen)))

    await until(are_seen, f"{place.seen} steps")


def is_open(step: dict) -> bool:
    return step["status"] in ("pending", "in_progress")


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


async def kept_steps(turn: Turn, where: str) -> list[dict]:
    """The steps of a turn that has ended, each once and closed. Those that had ended before are unchanged."""
    steps = await turn.all_steps(where)
    assert [step["number"] for step in steps] == list(range(1, len(steps) + 1)), where
    assert len(steps) >= len(turn.seen), where
    assert not any(map(is_open, steps)), where
    for before, step in zip(turn.seen, steps, strict=False):
        if not is_open(before):
            assert {name: step[name] for name in LASTING} == {name: before[name] for name in LASTING}, where
    return steps


async def check(turn: Turn, agent_was_killed: bool, where: str) -> None:
    """The turn has ended right, has its steps once, each where the terminal shows it, and the next turn knows it."""
    operator, place = turn.stage.operator, turn.place
    row = await operator.until_state(turn.command, *FINAL)
    kept = agent_was_killed and not place.offered and not place.unacknowledged
    states = {place.state, "lost"} if kept else {place.state}
    assert row["state"] in states, f"{where}: {row}"

    steps = await kept_steps(turn, where)
    kinds = [step["kind"] for step in steps]
    assert kinds == list(place.kinds)[: len(kinds) if row["state"] == "lost" else None], where
    end = max((step["output_end"] for step in steps), default=0)
    shown = await until_archived(operator.api.database_url, row["stream_id"], end) if steps else b""
    begun = {BEGIN: f"I begin {turn.name}", TOOL: f"echo {turn.name}", STEER: "a further text"}
    for step, kind in zip(steps, place.kinds, strict=False):
        assert begun.get(kind, "") in step["title"] or step["number"] > 1, f"{where}: {step}"
        if kind in (BEGIN, TOOL, STEER):
            title = step["title"].removesuffix("…").encode()
            if row["state"] == "lost" and kind == BEGIN:
                title = title.rpartition(b" ")[0]  # an agent that is killed has not shown the last word yet
            assert title in shown[step["output_start"] : step["output_end"]], f"{where}: {step} is not at its place"
    if turn.file("at").exists():
        pid = int(turn.file("at").read_text())

        async def is_gone() -> bool:
            return not psutil.pid_exists(pid)

        await until(is_gone, f"{where}: the program's end")

    after = await operator.send(turn.stage.agent.id, f"{turn.name}-after nowhere", conversation=row["conversation_id"])
    assert (await operator.until_state(after, *FINAL))["state"] == "succeeded", where
    steps = await Turn(turn.point, place, turn.stage, f"{turn.name}-after", after).all_steps(f"{where}: the next turn")
    assert [step["kind"] for step in steps] == WHOLE
    assert turn.name in steps[2]["text"], f"{where}: the next turn does not know it: {steps[2]['text']}"


Check = Callable[[Turn, bool, str], Awaitable[None]]
"""Checks a turn; it has whether its agent was killed, and a text for what fails."""


@asynccontextmanager
async def surviving(
    turns: list[Turn], victims: str, agents: Set[str] = frozenset(), check: Check = check
) -> AsyncGenerator[None]:
    """Kill the agents of the points that are named, and in the block the victims; then let the turns go on, and check
    each."""
    for turn in turns:
        if turn.point in agents:
            turn.stage.agent.process.kill()
            await turn.stage.agent.process.wait()
    yield
    await asyncio.gather(*(go_on(turn, turn.point in agents) for turn in turns))

    async def check_turn(turn: Turn) -> None:
        agent_was_killed = turn.point in agents
        killed = " and ".join(filter(None, [victims, "its agent" if agent_was_killed else ""]))
        await check(turn, agent_was_killed, f"{turn.point}, when {killed} was killed")

    await asyncio.gather(*map(check_turn, turns))


def environment(folder: Path) -> dict[str, str]:
    """That of agents that find the programs."""
    (folder / "bin").mkdir()
    for program in ("claude", "codex", "walking-acp"):
        script = f"walking_{program.removeprefix('walking-')}.py"
        (folder / "bin" / program).symlink_to(Path(__file__).with_name(script))
    (folder / "stages").mkdir()
    return {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "STAGES": str(folder / "stages"),
        "CLAUDE_CONFIG_DIR": str(folder / "config"),
    }


def points_of(kind: str) -> list[str]:
    """The points of a turn of this kind. ACP has no texts for a running turn."""
    return [point for point in POINTS if kind != "acp" or point != "steered"]


async def stages_at(center: Center, points: Iterable[str], kind: str = "claude") -> dict[str, Stage]:
    names = [f"{kind}-{point.replace(' ', '-')}" for point in points]
    made = await asyncio.gather(*(center.stage(name, kind, KINDS[kind]) for name in names))
    return dict(zip(points, made, strict=True))


async def bring_all(stages: Mapping[str, Stage], name: str) -> list[Turn]:
    return await asyncio.gather(
        *(bring(stage, point, f"{name}-{at}") for at, (point, stage) in enumerate(stages.items()))
    )
