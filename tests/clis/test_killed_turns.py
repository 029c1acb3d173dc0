"""SIGKILL of the control center, of the agent and of both at each point of a turn of a real coding CLI: no step is lost
or there twice, no command of the turn runs twice or unasked, and each turn ends right."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from chaos.stages import Stage, center_running
from chaos.test_killed_turns import NONE, PARTS
from chaos.turns import Point, Turn, exists, kept_steps, surviving, until_seen
from clis.programs import ASKING_OPENCODE, CLAUDE_BY_ACP, CODEX, GEMINI, Cli
from clis.test_cli_rules import leaves_sandbox
from support.agents import FINAL, until
from support.api_calls import call_api

from onsembl.agent.process.tree import COMMAND_ID_VARIABLE
from onsembl.cli.server.embedded_postgres import EmbeddedPostgres

pytestmark = [pytest.mark.clis, pytest.mark.timeout(2400)]

SECONDS = 300.0
"""How long a step of the test may take: seven CLIs start at once, and Gemini CLI waits up to a minute."""
WHOLE = ["tool", "notice", "message", "result"]
POINTS = {
    "start": Point("start"),
    "prompt sent": Point("prompt"),
    "question open": Point("question"),
    "answer on its way": Point("answer", unacknowledged=True),
    "step running": Point("tool", seen=1),
    "answer begun": Point("message", seen=3),
    "end on its way": Point("end", seen=4, ended=True, muted=True),
}
KILLS = ((PARTS, NONE), ((), frozenset(POINTS)), (PARTS, frozenset(POINTS)))
"""The killed parts, and the points at which the agents are killed, too."""


def runs(command: str) -> str:
    """A prompt that has a CLI ask for permission to run the command."""
    return f"[run: {command}] [say: It is done.]"


@dataclass(frozen=True)
class Killed:
    """A CLI, and the prompt by which it asks to run a command."""

    cli: Cli
    runs: Callable[[str], str] = runs
    waits: bool = True
    """Whether a turn waits for its command: Codex's goes on after 10 s, and ends the command at its own end."""


CLIS = {
    "codex": Killed(CODEX, leaves_sandbox, waits=False),
    "gemini": Killed(GEMINI),
    "opencode": Killed(ASKING_OPENCODE),
    "claude by ACP": Killed(CLAUDE_BY_ACP),
}


@pytest.fixture(params=CLIS)
def killed(
    request: pytest.FixtureRequest, pinned: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Killed:
    """The CLI, behind a program that holds its start as long as the file HELD is there."""
    found: Killed = CLIS[request.param]
    found.cli.use(pinned, model, tmp_path, monkeypatch)
    program = tmp_path / "bin" / found.cli.command
    real = program.resolve()
    program.unlink()
    wait = 'if test -e "$HELD"; then touch "$HELD.at"; while test -e "$HELD"; do sleep 0.05; done; fi'
    program.write_text(f'#!/bin/sh\n{wait}\nexec "{real}" "$@"\n')
    program.chmod(0o755)
    (tmp_path / "stages").mkdir()
    return found


def held(folder: Path) -> Path:
    """The file that holds the start of the CLI at the point "start"; FILE.at tells that it is held."""
    return folder / "stages" / "held"


async def open_questions(turn: Turn) -> list[dict[str, Any]]:
    path = f"/v1/attention?state=open&kind=permission&command_id={turn.command['id']}"
    return (await call_api(turn.stage.operator, "GET", path))["requests"]


async def question(turn: Turn) -> dict[str, Any]:
    """The question of the turn, when it is open."""

    async def asked() -> list[dict[str, Any]]:
        row = await turn.stage.operator.read(turn.command)
        assert row["state"] not in FINAL, row
        return await open_questions(turn)

    (row,) = await until(asked, f"{turn.name} asks", SECONDS)  # type: ignore[misc]
    return row


async def allow(turn: Turn) -> None:
    row = await question(turn)
    body = {"digest": row["digest"], "decision": {"decision": "allow"}}
    await call_api(turn.stage.operator, "POST", f"/v1/attention/{row['id']}/answer", body)


async def bring(stage: Stage, killed: Killed, point: str, name: str) -> Turn:
    """Send a prompt, and wait until its turn is at the point."""
    place = POINTS[point]
    await stage.connected()
    file = stage.folder / "stages" / name
    waits = f"touch {file}.at; until test -e {file}.go; do sleep 0.1; done; "
    text = killed.runs(f"{waits if place.at == 'tool' else ''}echo x >> {file}.ran")
    gate = {"prompt": f"[before: {file}] ", "message": f"[within: {file}] ", "end": f"[within: {file}] "}
    if place.at == "start":
        hold = held(stage.folder)
        Path(f"{hold}.at").unlink(missing_ok=True)
        hold.touch()
    text = f"{name} {gate.get(place.at, '')}{text}"
    command = await stage.operator.send(stage.agent.id, text, permission_mode="ask", conversation="new")
    turn = Turn(point, place, stage, name, command)
    match place.at:
        case "start":
            await until(exists(Path(f"{held(stage.folder)}.at")), f"{name} starts", SECONDS)
        case "prompt":
            await until(exists(turn.file("at")), f"{name} has its prompt sent", SECONDS)
        case "question":
            await question(turn)
        case "answer":
            await question(turn)
            stage.link.drop_answers()
            await allow(turn)
        case _:
            await allow(turn)
            await until(exists(turn.file("at")), f"{name} is at {point}", SECONDS)
    if place.at == "end":
        stage.link.muted = True
        turn.file("go").touch()
    await until_seen(turn)
    return turn


async def check(killed: Killed, turn: Turn, agent_was_killed: bool, where: str) -> None:
    """The turn has ended right, has its steps and its command once, and the next turn knows it."""
    operator, place = turn.stage.operator, turn.place
    if place.at in ("start", "prompt", "question") and not agent_was_killed:
        await allow(turn)
    row = await operator.until_state(turn.command, *FINAL, seconds=SECONDS)
    states = {"lost"} if agent_was_killed else {"succeeded"}
    states |= {"succeeded"} if place.at == "end" else set()
    assert row["state"] in states, f"{where}: {row}"
    steps = await kept_steps(turn, where)
    kinds = [step["kind"] for step in steps]
    assert kinds == WHOLE[: len(kinds) if row["state"] == "lost" else None], f"{where}: {kinds}"
    assert await open_questions(turn) == [], where
    ran = turn.file("ran").read_text() if turn.file("ran").exists() else ""
    unasked = row["state"] == "lost" and place.at in ("question", "answer")
    waits = killed.waits or place.at != "tool"
    must_run = place.at in ("message", "end") or (row["state"] == "succeeded" and waits)
    assert ran in ({""} if unasked else {"x\n"} if must_run else {"", "x\n"}), f"{where}: it ran {len(ran) // 2} times"

    async def are_gone() -> bool:
        return not await asyncio.to_thread(processes_of, turn.command)

    await until(are_gone, f"{where}: the programs' end", SECONDS)
    knows = row["state"] == "succeeded" or place.at != "start"
    text, answered = ("[recall: 1]", turn.name) if knows else ("[say: Hello.]", "Hello.")
    fields = {"permission_mode": "ask", "conversation": row["conversation_id"]}
    after = await operator.send(turn.stage.agent.id, text, **fields)
    ended = await operator.until_state(after, *FINAL, seconds=SECONDS)
    assert (ended["state"], ended["error"]) == ("succeeded", None), where
    steps = await Turn(turn.point, place, turn.stage, f"{turn.name}-after", after).all_steps(f"{where}: the next turn")
    assert [step["title"] for step in steps if step["kind"] == "message"] == [answered], f"{where}: the next turn"


def processes_of(command: dict[str, Any]) -> list[int]:
    """The processes of a command."""
    found: list[int] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(COMMAND_ID_VARIABLE) == command["id"]:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


async def test_turns_survive_kills(own_postgres: EmbeddedPostgres, tmp_path: Path, killed: Killed) -> None:
    """Of the control center, the agents, and all, at each point."""
    async with center_running(own_postgres, tmp_path) as center:
        stages: dict[str, Stage] = {}
        for number, point in enumerate(POINTS):
            home = shutil.copytree(tmp_path / "home", tmp_path / f"home-{number}")  # they write there at their start
            own = {"HOME": str(home)} | ({"HELD": str(held(tmp_path))} if point == "start" else {})
            stages[point] = await center.stage(f"agent-{number}", killed.cli.kind, killed.cli.arguments, **own)
        for number, (parts, agents) in enumerate(KILLS):
            places = enumerate(stages.items())
            turns = await asyncio.gather(
                *(bring(stage, killed, point, f"turn-{number}-{at}") for at, (point, stage) in places)
            )
            async with surviving(turns, ", ".join(parts), agents, partial(check, killed)):
                await asyncio.gather(*map(center.kill, parts))
                await center.ready()
                held(tmp_path).unlink()
