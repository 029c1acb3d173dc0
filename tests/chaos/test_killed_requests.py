"""SIGKILL of each part, and cuts, cancels, halts and deadlines, while a coding agent waits for a person: one answer
reaches the CLI or none, the row says which, nothing is allowed that nobody allowed, and nothing waits unseen."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx
import pytest
from chaos.stages import Center, Stage, center_running
from support.agents import FINAL, until
from support.api_calls import call_api
from support.missing_guards import without

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.sql.database import connect

CLAUDE = Path(__file__).with_name("asking_claude.py")
RUNS = int(os.environ.get("ONSEMBL_KILLED_REQUESTS", "500"))
AT_ONCE = 8

NO_ANSWER = (httpx.HTTPError, AttributeError)
"""What a request to a killed API raises. A connection that ends while it is made has no socket, for which AnyIO has no
error of its own."""

Place = Literal["asked, on its way", "open", "answer on its way", "given, untold"]
"""Where the request is when the parts are killed."""
Event = Literal["none", "link cut", "agent killed", "CLI killed", "cancel", "deadline"]
"""What happens to the command at the same moment."""
PLACES: Sequence[Place] = ("asked, on its way", "open", "answer on its way", "given, untold")
EVENTS: Sequence[Event] = ("none", "link cut", "agent killed", "CLI killed", "cancel", "deadline")
KILLS = [(), ("api",), ("worker",), ("postgres",), ("api", "postgres"), ("worker", "api", "postgres")]


@dataclass
class Run:
    """One command that asks twice."""

    stage: Stage
    name: str
    place: Place
    event: Event
    choice: random.Random
    command: dict = field(default_factory=dict)
    allowed: bool = False
    """Whether an operator has tried to allow something."""

    def __str__(self) -> str:
        return f"{self.name}: {self.place}, {self.event}"

    def file(self, what: str) -> Path:
        return self.stage.folder / "stages" / f"{self.name}.{what}"

    def lines(self, what: str) -> list[str]:
        return self.file(what).read_text().splitlines() if self.file(what).exists() else []

    async def read(self, path: str) -> dict | None:
        """A resource of the API, None while it is not there."""
        operator = self.stage.operator
        with suppress(*NO_ANSWER):
            response = await operator.api.http.get(path, headers=operator.headers)
            return response.json() if response.is_success else None
        return None

    async def open_rows(self) -> list[dict]:
        page = await self.read(f"/v1/attention?state=open&kind=permission&command_id={self.command['id']}")
        return page["requests"] if page is not None else []

    async def has_ended(self) -> bool:
        row = await self.read(f"/v1/commands/{self.command['id']}")
        return row is not None and row["state"] in FINAL

    async def answer(self, row: dict) -> None:
        """Let two operators answer at the same moment, each in a way of their own."""
        await asyncio.gather(*(self._answer(row) for _ in range(2)))

    async def _answer(self, row: dict) -> None:
        bodies: list[dict] = [
            {"decision": {"decision": "allow"}},
            {"decision": {"decision": "allow"}, "scope": "conversation", "rule": row["body"]["rules"][-1]},
            {"decision": {"decision": "deny", "reason": "no"}},
        ]
        body = self.choice.choice(bodies)
        self.allowed = self.allowed or body["decision"]["decision"] == "allow"
        operator = self.stage.operator
        with suppress(*NO_ANSWER):
            path = f"/v1/attention/{row['id']}/answer"
            await operator.api.http.post(path, json={"digest": row["digest"], **body}, headers=operator.headers)

    async def bring(self) -> None:
        """Send the command, and wait until its first request is at its place."""
        await self.stage.connected()
        link, deadline = self.stage.link, {"work_seconds": 2, "waiting_seconds": 2}
        limits = {"limits": deadline} if self.event == "deadline" else {}
        link.muted = self.place == "asked, on its way"
        self.command = await self.stage.operator.send(self.stage.agent.id, self.name, **limits)

        async def has_asked() -> bool:
            return self.file("at").exists() or await self.has_ended()

        await until(has_asked, f"{self} asks")
        if link.muted:
            return

        async def is_seen() -> bool:
            return bool(await self.open_rows()) or await self.has_ended()

        await until(is_seen, f"{self} is seen")
        if self.place == "answer on its way":
            link.drop_answers()
        link.muted = self.place == "given, untold"
        if self.place != "open":
            for row in await self.open_rows():
                await self.answer(row)
        if link.muted:

            async def is_told() -> bool:
                return bool(self.lines("told")) or await self.has_ended() or self.event == "deadline"

            await until(is_told, f"{self} is told")

    async def happen(self) -> None:
        """Let the event happen, and operators answer meanwhile."""
        rows = await self.open_rows()
        with suppress(*NO_ANSWER, AssertionError):
            match self.event:
                case "link cut":
                    self.stage.link.cut()
                case "agent killed":
                    self.stage.agent.process.kill()
                    await self.stage.agent.process.wait()
                case "CLI killed" if self.file("at").exists():
                    with suppress(ProcessLookupError):
                        os.kill(int(self.file("at").read_text()), signal.SIGKILL)
                case "cancel":
                    await self.stage.operator.cancel(self.command)
                case _:
                    pass
        for row in rows:
            await self.answer(row)

    async def go_on(self) -> None:
        """Mend the link, start the agent again, and answer all that is seen until the command has ended."""
        link = self.stage.link
        link.cut()
        link.mend()
        link.muted = False
        if self.event == "agent killed":
            self.stage.agent = await self.stage.start_agent()

        async def ends() -> bool:
            for row in await self.open_rows():
                await self.answer(row)
            return await self.has_ended()

        await until(ends, f"{self} waits unseen: the end")

    async def check(self, halted: bool) -> None:
        """The CLI, the rows and the audit log agree."""
        dead = self.event in ("agent killed", "CLI killed", "cancel", "deadline") or halted

        path = f"/v1/attention?kind=permission&command_id={self.command['id']}"

        async def settled() -> dict | None:
            page = await self.read(path)
            known = page is not None and all(row["delivery"] != "unknown" for row in page["requests"])
            return page if known or dead else None

        page = await until(settled, f"{self} is settled")
        assert isinstance(page, dict)
        rows = page["requests"]
        async with await connect(self.stage.operator.api.database_url) as conn:
            cursor = await conn.execute(
                """select target_id, detail -> 'decision' ->> 'decision' as decision, detail ->> 'asked' as asked
                   from onsembl.audit where action = 'attention.answered' and detail ->> 'command_id' = %s""",
                [self.command["id"]],
            )
            audited = {row["target_id"]: row for row in await cursor.fetchall()}
            assert cursor.rowcount == len(audited), f"{self} was answered twice in the audit log"
        told = [line.split(maxsplit=2) for line in self.lines("told")]
        assert len({number for number, _, _ in told}) == len(told), f"{self} was answered twice: {told}"
        answers = {number: (decision, json.loads(arguments)) for number, decision, arguments in told}
        by_number = {json.loads(row["body"]["input"])["command"].split()[-1]: row for row in rows}
        for number, (decision, arguments) in answers.items():
            row = by_number[number]
            audit = audited[row["id"]]
            assert row["state"] == "answered" and row["decision"]["decision"] == decision, f"{self}: {row}"
            assert row["delivery"] in ("given", "unknown"), f"{self} says that the CLI has no answer: {row}"
            assert audit["decision"] == decision, f"{self}: {audit}"
            if decision == "allow":
                assert self.allowed, f"{self} was allowed by nobody"
                assert arguments == json.loads(json.loads(audit["asked"])["input"]), f"{self}: {arguments}"
        for number, row in by_number.items():
            assert row["state"] != "open" and row["delivery"] != "waiting", f"{self} waits after its end: {row}"
            if row["delivery"] == "late":
                assert number not in answers, f"{self} had the answer: {row}"
            elif row["delivery"] == "given":
                assert number in answers or dead, f"{self} had no answer: {row}"
            elif row["delivery"] == "unknown":
                assert dead, f"{self} is not known: {row}"
        if not dead:
            assert (await self.stage.operator.read(self.command))["state"] == "succeeded", self
            assert set(answers) == set(by_number) == {"1", "2"}, f"{self}: {answers}"


async def halted(center: Center) -> None:
    """Halt the fleet, whatever is killed meanwhile."""

    async def is_halted() -> bool:
        with suppress(*NO_ANSWER):
            response = await center.api.http.post("/v1/halt", json={}, headers=center.operator.headers)
            return response.status_code in (202, 409)
        return False

    await until(is_halted, "the halt")


async def kill_round(center: Center, runs: list[Run], victims: Iterable[str], halt: bool) -> None:
    """Bring the commands to their places, kill, let everything else happen at the same moment, and check."""
    await asyncio.gather(*(run.bring() for run in runs))

    async def kill() -> None:
        for victim in victims:
            await center.kill(victim)

    await asyncio.gather(kill(), *([halted(center)] if halt else []), *(run.happen() for run in runs))
    await center.ready()
    await asyncio.gather(*(run.go_on() for run in runs))
    for run in runs:
        await run.check(halt)
    if halt:
        await call_api(center.operator, "DELETE", "/v1/halt")


def environment(folder: Path) -> dict[str, str]:
    """That of agents that find the program."""
    (folder / "bin").mkdir()
    (folder / "bin" / "claude").symlink_to(CLAUDE)
    (folder / "stages").mkdir()
    return {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "STAGES": str(folder / "stages")}


async def stages(center: Center, count: int) -> list[Stage]:
    return await asyncio.gather(*(center.stage(f"agent-{number}", "claude") for number in range(count)))


@pytest.mark.seconds(10)
@pytest.mark.timeout(300)
async def test_requests_survive_a_kill_of_everything(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """At each place of a request, with an event of each sort."""
    async with center_running(own_postgres, tmp_path, **environment(tmp_path)) as center:
        table = [*zip(PLACES, ("none", "agent killed", "link cut", "none"), strict=True), ("open", "CLI killed")]
        made = await stages(center, len(table))
        runs = [
            Run(stage, f"turn-{number}", place, event, random.Random(number))
            for number, (stage, (place, event)) in enumerate(zip(made, table, strict=True))
        ]
        await kill_round(center, runs, ("worker", "api", "postgres"), halt=False)


@pytest.mark.soak
@pytest.mark.timeout(300 + RUNS * 6)
async def test_requests_survive_any_kill_at_any_place(
    own_postgres: EmbeddedPostgres, tmp_path: Path, seed: int
) -> None:
    """Any parts, any place, any event, by the seed."""
    choice = random.Random(seed)
    async with center_running(own_postgres, tmp_path, **environment(tmp_path)) as center:
        made = await stages(center, AT_ONCE)
        for number in range(0, RUNS, AT_ONCE):
            runs = [
                Run(stage, f"turn-{number + at}", choice.choice(PLACES), choice.choice(EVENTS), random.Random(number))
                for at, stage in enumerate(made)
            ]
            await kill_round(center, runs, choice.choice(KILLS), halt=choice.random() < 0.1)
            print(f"{number + len(runs)} runs", flush=True)


AGENT_THAT_FORGETS_THAT_IT_HAS_ANSWERED = """
from onsembl.agent.drivers.claude.tool_permissions import ToolPermissions
from onsembl.agent.drivers.turn_run import TurnRun
from onsembl.agent.requests import Requests

take, answer, give = Requests.take, ToolPermissions.answer, TurnRun.give

def take_again(requests, given):
    asked = requests._open.get(given.request_id)
    taken = take(requests, given)
    if asked is not None:
        requests._open[given.request_id] = asked
    return taken

def answer_again(permissions, id, decision, denial):
    asked = permissions._asked[id]
    yield from answer(permissions, id, decision, denial)
    permissions._asked[id] = asked

def give_again(run, id, decision, by):
    body = run._bodies[id]
    given = give(run, id, decision, by)
    run._bodies[id] = body
    return given

Requests.take, ToolPermissions.answer, TurnRun.give = take_again, answer_again, give_again
"""


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_an_answer_that_is_given_twice_is_detected(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """When the agent gives its CLI each answer that it is sent, the check fails."""
    guard = without(tmp_path / "guard", AGENT_THAT_FORGETS_THAT_IT_HAS_ANSWERED)
    async with center_running(own_postgres, tmp_path, **environment(tmp_path), **guard) as center:
        (stage,) = await stages(center, 1)
        run = Run(stage, "turn", "given, untold", "none", random.Random(1))
        with pytest.raises(AssertionError, match="answered twice"):
            await kill_round(center, [run], ("api",), halt=False)
