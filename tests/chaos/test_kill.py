"""`kill -9` of each part while commands are at every point of their life, each on an agent of its own: every one ends
right, and ran once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from chaos.parts import ApiPart, Part, PostgresPart
from support.agents import FINAL, CuttableLink, Operator, RunningAgent, agent_running, sleepers, until
from support.asking import ask
from support.missing_guards import without
from support.server import Api

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.fleet.command_text import Said
from onsembl.fleet.commands import request_command
from onsembl.protocol.ids import AgentId
from onsembl.sql.audit import Actor
from onsembl.sql.database import connect

SOON = ("--dead-after", "2")
VICTIMS = {
    "the worker": ("worker",),
    "the API": ("api",),
    "Postgres": ("postgres",),
    "everything": ("worker", "api", "postgres"),
}


class MuffledLink(CuttableLink):
    """One that can lose what the agent says, until it is cut."""

    muffled = False

    def asks(self, data: bytes) -> bool:
        return not self.muffled


@dataclass
class Stage:
    """What a point is brought about with: an agent of its own over a link of its own."""

    operator: Operator
    agent: RunningAgent
    link: MuffledLink
    folder: Path
    start_agent: Callable[[], Awaitable[RunningAgent]]
    victims: str = ""
    """Who is killed: the files of each kill have names of their own."""

    async def connected(self) -> None:
        """The agent takes commands."""
        command = await self.operator.send(self.agent.id, "true")
        assert (await self.operator.until_state(command, *FINAL))["state"] == "succeeded"

    def file(self, name: str) -> Path:
        return self.folder / f"{name}-{self.victims.replace(' ', '-')}-{self.agent.id}"

    async def send(self, then: str = "true") -> dict:
        """A command that notes each time that it runs, and then does this."""
        return await self.operator.send(self.agent.id, f"echo x >> {self.file('ran')}; {then}")

    def waits(self) -> str:
        return f"until test -e {self.file('go')}; do sleep 0.05; done; echo x >> {self.file('ended')}"

    async def exists(self, name: str) -> None:
        async def there() -> bool:
            return self.file(name).exists()

        await until(there, name)

    async def state_of(self, command: dict) -> str:
        return (await self.operator.read(command))["state"]


Afterwards = Callable[[], Awaitable[None]]
Point = Callable[[Stage], Awaitable[tuple[list[dict], str, Afterwards]]]
"""Brings a command to a point; answers what was sent, what that must come to, and what is done after the kill."""


async def waits_in_line(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    first, second = await stage.send(stage.waits()), await stage.send()
    await stage.operator.until_state(first, "running")
    assert await stage.state_of(second) == "queued"

    async def afterwards() -> None:
        stage.file("go").touch()

    return [first, second], "succeeded", afterwards


async def waits_for_its_agent(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    await stage.agent.stop()

    async def is_away() -> bool:
        return (await ask(stage.operator, "GET", f"/v1/agents/{stage.agent.id}"))["status"] == "offline"

    await until(is_away, "its agent is away")
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


async def has_begun_and_nobody_knows(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    stage.link.muffled = True
    command = await stage.send(stage.waits())
    await stage.exists("ran")
    assert await stage.state_of(command) == "dispatched"

    async def afterwards() -> None:
        stage.link.cut()
        stage.link.muffled = False
        stage.file("go").touch()

    return [command], "succeeded", afterwards


async def runs(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    command = await stage.send(stage.waits())
    await stage.operator.until_state(command, "running")
    await stage.exists("ran")

    async def afterwards() -> None:
        stage.file("go").touch()

    return [command], "succeeded", afterwards


async def is_being_cancelled(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    """It takes no interrupt, so the ladder takes a while."""
    command = await stage.send("trap '' INT; while true; do sleep 0.1; done")
    await stage.operator.until_state(command, "running")
    await stage.exists("ran")
    await stage.operator.cancel(command)

    async def is_told() -> bool:
        return bool((await stage.operator.read(command))["cancel_step"])

    await until(is_told, "the first rung")

    async def afterwards() -> None:
        pass

    return [command], "cancelled", afterwards


async def is_over_and_nobody_knows(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    command = await stage.send(stage.waits())
    await stage.operator.until_state(command, "running")
    stage.link.sever()
    stage.file("go").touch()
    await stage.exists("ended")

    async def afterwards() -> None:
        stage.link.mend()

    return [command], "succeeded", afterwards


async def is_over_and_its_agent_does_not_know_that_it_is_known(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    command = await stage.send(stage.waits())
    await stage.operator.until_state(command, "running")
    stage.link.deafen()
    stage.file("go").touch()
    await stage.operator.until_state(command, "succeeded")

    async def afterwards() -> None:
        stage.link.cut()
        stage.link.mend()

    return [command], "succeeded", afterwards


async def is_promoted_and_nobody_was_told(stage: Stage) -> tuple[list[dict], str, Afterwards]:
    """As one of whom the API died between the two. The worker would find it soon: this is the last before the kill."""
    agent_id = AgentId(UUID(stage.agent.id))
    ann = Actor("operator", uuid4(), "ann", "127.0.0.1")
    async with await connect(stage.operator.api.database_url) as conn:
        row = await request_command(conn, agent_id, Said(f"echo x >> {stage.file('ran')}", 5), ann)
        assert row is not None and row["state"] == "dispatched"
        await conn.commit()

    async def afterwards() -> None:
        pass

    return [{"id": str(row["id"])}], "succeeded", afterwards


POINTS: list[Point] = [
    waits_in_line,
    waits_for_its_agent,
    is_offered,
    has_begun_and_nobody_knows,
    runs,
    is_being_cancelled,
    is_over_and_nobody_knows,
    is_over_and_its_agent_does_not_know_that_it_is_known,
]
LAST_POINT = is_promoted_and_nobody_was_told


@dataclass
class Center:
    """A control center whose parts are killed one by one."""

    api: Api
    operator: Operator
    stage: Callable[[str], Awaitable[Stage]]
    kill: Callable[[str], Awaitable[None]]
    ready: Callable[[], Awaitable[None]]


@asynccontextmanager
async def center_running(
    own_postgres: EmbeddedPostgres, tmp_path: Path, **agents_environment: str
) -> AsyncGenerator[Center]:
    environment = {**os.environ, **agents_environment}
    async with AsyncExitStack() as stack:
        url = own_postgres.url()
        parts: dict[str, Part | PostgresPart] = {"postgres": PostgresPart(own_postgres)}
        api_part = parts["api"] = ApiPart(tmp_path, url)
        parts["worker"] = Part(tmp_path, "worker", "worker", *SOON, database_url=url)
        for part in (api_part, parts["worker"]):
            await part.start()
            stack.push_async_callback(part.end)
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=api_part.url, timeout=30))
        await api_part.ready(http)
        api = Api(api_part.url, url, http, None)  # type: ignore[arg-type]
        operator = Operator(api, await api.operator())

        async def stage(name: str) -> Stage:
            link = await stack.enter_async_context(MuffledLink(api.url))

            async def start() -> RunningAgent:
                return await stack.enter_async_context(
                    agent_running(api, tmp_path, name, server=link.url, env=environment)
                )

            made = Stage(operator, await start(), link, tmp_path, start)
            await made.connected()
            return made

        yield Center(api, operator, stage, lambda victim: parts[victim].kill(), lambda: api_part.ready(http))


async def kill_at(center: Center, stages: dict[Point, Stage], victims: str) -> None:
    """Bring a command to each point, kill, and see that each ends right and ran once."""
    for stage in stages.values():
        stage.victims = victims
    await asyncio.gather(*(stage.connected() for stage in stages.values()))
    early = [point for point in stages if point is not LAST_POINT]
    brought = dict(zip(early, await asyncio.gather(*(point(stages[point]) for point in early)), strict=True))
    if LAST_POINT in stages:
        brought[LAST_POINT] = await LAST_POINT(stages[LAST_POINT])
    for victim in VICTIMS[victims]:
        await center.kill(victim)
    await center.ready()
    for _, _, afterwards in brought.values():
        await afterwards()
    for point, (commands, wanted, _) in brought.items():
        where = f"{point.__name__} when {victims} was killed"
        for command in commands:
            row = await center.operator.until_state(command, *FINAL)
            assert row["state"] == wanted, f"{where}: {row}"
            assert await sleepers(command) == [], where
        ran = stages[point].file("ran").read_text()
        assert ran == "x\n" * len(commands), f"{where}: it ran {len(ran) // 2} times"


KILLS = pytest.mark.parametrize(
    "kills",
    [("the API", "everything"), pytest.param(tuple(VICTIMS), marks=pytest.mark.soak)],
    ids=["the API, everything", "each part"],
)


@KILLS
@pytest.mark.seconds(25)
@pytest.mark.timeout(600)
async def test_commands_end_right_at_every_point(
    own_postgres: EmbeddedPostgres, tmp_path: Path, kills: tuple[str, ...]
) -> None:
    """Whichever part is killed, and when all of them are."""
    async with center_running(own_postgres, tmp_path) as center:
        points = [*POINTS, LAST_POINT]
        made = await asyncio.gather(*(center.stage(point.__name__) for point in points))
        for victims in kills:
            await kill_at(center, dict(zip(points, made, strict=True)), victims)


FORGETFUL_AGENT = """
from onsembl.agent.link.journal import Journal

Journal.accepted = Journal.end = lambda self, report: None
"""


async def test_a_command_that_runs_twice_is_found(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """An agent that does not remember the ids of the commands that it took is offered one again."""
    async with center_running(own_postgres, tmp_path, **without(tmp_path / "guard", FORGETFUL_AGENT)) as center:
        stages: dict[Point, Stage] = {has_begun_and_nobody_knows: await center.stage("forgetful")}
        with pytest.raises(AssertionError, match="it ran 2 times"):
            await kill_at(center, stages, "the API")


@KILLS
@pytest.mark.seconds(10)
@pytest.mark.timeout(300)
async def test_a_halt_is_seen_through_whoever_is_killed_meanwhile(
    own_postgres: EmbeddedPostgres, tmp_path: Path, kills: tuple[str, ...]
) -> None:
    """What runs and what waits is cancelled, the agent proves it, and nothing starts until the halt is lifted."""
    async with center_running(own_postgres, tmp_path) as center:
        operator = center.operator
        stage = await center.stage("halted")

        async def is_stopped() -> bool:
            response = await center.api.http.get("/v1/halt", headers=operator.headers)
            return [agent["state"] for agent in response.json().get("agents", [])] == ["stopped"]

        for number, victims in enumerate(VICTIMS[name] for name in kills):
            began, ran = stage.file(f"began-{number}"), stage.file(f"ran-{number}")
            runs = await operator.send(
                stage.agent.id, f"trap '' INT TERM; touch {began}; while true; do sleep 0.1; done"
            )
            waits = await operator.send(stage.agent.id, f"echo x >> {ran}")
            await stage.exists(f"began-{number}")
            await operator.until_state(runs, "running")
            await ask(operator, "POST", "/v1/halt", {}, 202)
            for victim in victims:
                await center.kill(victim)
            await center.ready()
            for command in (runs, waits):
                assert (await operator.until_state(command, *FINAL))["state"] == "cancelled"
            await until(is_stopped, "its proof")
            assert await sleepers(runs) == []
            late = await operator.send(stage.agent.id, f"echo x >> {ran}")
            assert late["state"] == "queued"
            await ask(operator, "DELETE", "/v1/halt")
            await operator.until_state(late, "succeeded")
            assert ran.read_text() == "x\n"
