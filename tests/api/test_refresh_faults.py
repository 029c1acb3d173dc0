"""A refresh that is interrupted at any step leaves the agent authenticated, without help from an operator."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from support.agents import CuttableLink, Operator, RunningAgent, agent_running, until
from support.frames import HELLO_TEXT, next_message
from support.server import Api, running
from websockets.exceptions import ConnectionClosed, InvalidStatus

from onsembl.agent.enrolment import credentials as store
from onsembl.api.auth import agent_tokens
from onsembl.api.auth.agent_tokens import AgentTokens
from onsembl.sql import refresh_tokens
from onsembl.sql.database import Connection, connect

Refresh = Callable[..., Awaitable[object]]


class Faults:
    """Interrupts the first refreshes, and counts the later ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 3
        self.done = 0
        self.link: CuttableLink
        self._monkeypatch = monkeypatch
        self.real: Refresh = AgentTokens.refresh

    def around(self, fault: Fault) -> None:
        async def refresh(tokens: AgentTokens, *arguments: object) -> object:
            if self.left == 0:
                self.done += 1
                return await self.real(tokens, *arguments)
            self.left -= 1
            return await fault(self, lambda: self.real(tokens, *arguments))

        self._monkeypatch.setattr(AgentTokens, "refresh", refresh)


Fault = Callable[[Faults, Refresh], Awaitable[object]]


async def cut_before(faults: Faults, real: Refresh) -> object:
    """The link is cut before the server refreshes the tokens."""
    faults.link.cut()
    raise psycopg.OperationalError("the connection was lost")


async def cut_between(faults: Faults, real: Refresh) -> object:
    """The link is cut after the refresh is committed, and the answer is lost."""
    issued = await real()
    faults.link.cut()
    return issued


async def cut_late(faults: Faults, real: Refresh) -> object:
    """The link is cut, and the agent refreshes over a new connection before the server runs the first refresh."""
    faults.link.cut()
    asked = asyncio.create_task(real())
    return await asked


async def answer_late(faults: Faults, real: Refresh) -> object:
    """The link is cut while the answer is on its way."""
    issued = await real()
    asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(faults.link.cut))
    return issued


@asynccontextmanager
async def agent_behind_a_link(api: Api, tmp_path: Path, faults: Faults) -> AsyncGenerator[Operator]:
    async with CuttableLink(api.url) as link:
        faults.link = link
        async with agent_running(api, tmp_path, server=link.url) as agent:
            operator = Operator(api, await api.operator())
            command = await operator.send(agent.id, "until test -e go; do sleep 0.05; done")
            yield operator
            await until(lambda: _went_on(agent, faults, 2), "the agent to have gone on", 90)
            (tmp_path / "go").touch()
            assert (await operator.until_state(command, "succeeded", "failed", "lost"))["state"] == "succeeded"
            await until(lambda: welcome(api, tmp_path), "a welcome for what is on disk")


async def welcome(api: Api, tmp_path: Path) -> bool:
    """Whether the stored tokens open a connection; on a busy machine they may have expired since they were read."""
    held = store.load(tmp_path / "agents" / "one")
    try:
        async with api.agent_socket(held) as socket:  # type: ignore[arg-type]
            await socket.send(HELLO_TEXT)
            return json.loads(await socket.recv())["type"] == "welcome"
    except (InvalidStatus, ConnectionClosed):
        return False


@pytest.mark.parametrize("fault", [cut_before, cut_between, cut_late, answer_late])
async def test_the_socket_is_cut(settings, tmp_path, monkeypatch, fault):
    """After three cuts at this step the tokens rotate on, the command succeeds, and the stored tokens are valid."""
    async with running(replace(settings, agent_access_token=2.0)) as api:
        await survives(api, tmp_path, Faults(monkeypatch), fault)
        assert await alerts(api) == 0, "no fault is taken for a theft"


async def survives(api: Api, tmp_path: Path, faults: Faults, fault: Fault) -> None:
    """An agent whose refreshes have these faults finishes its command, and its stored tokens are valid."""
    async with agent_behind_a_link(api, tmp_path, faults):
        faults.around(fault)


@pytest.mark.parametrize("fault", [cut_before, cut_between, cut_late, answer_late])
async def test_a_stolen_token_is_found_out_after_a_fault(settings, tmp_path, monkeypatch, fault):
    """A refresh token that was stolen before a fault is rejected once the agent has refreshed, and its use revokes the
    tokens made from it."""
    faults = Faults(monkeypatch)
    async with running(replace(settings, agent_access_token=2.0)) as api, CuttableLink(api.url) as link:
        faults.link = link
        async with agent_running(api, tmp_path, server=link.url) as agent:
            stolen = store.load(tmp_path / "agents" / "one").refresh_token
            faults.around(fault)
            await until(lambda: _went_on(agent, faults, 3), "the agent to have gone on")
            assert await exchanged(api, stolen) is None
            async with asyncio.timeout(60):
                assert await agent.process.wait() != 0
        assert await alerts(api) == 1
        assert await exchanged(api, store.load(tmp_path / "agents" / "one").refresh_token) is None
        assert not await welcome(api, tmp_path)


async def test_a_missing_guard_is_seen(settings, tmp_path, monkeypatch):
    """Two holders would go on if no used token were rejected; an agent that missed an answer would lose its credentials
    if a used token could not be repeated."""
    take = refresh_tokens.take

    async def take_once(conn: Connection, token: str) -> refresh_tokens.RefreshToken | None:
        found = await take(conn, token)
        return replace(found, repeatable=False) if found is not None else None

    async with running(replace(settings, agent_access_token=2.0)) as api:
        with monkeypatch.context() as removed, pytest.raises(AssertionError):
            removed.setattr(agent_tokens, "_rejection", lambda _: None)
            await test_both_answers_used_at_once(api)
        monkeypatch.setattr(refresh_tokens, "take", take_once)
        with pytest.raises(AssertionError, match="the agent has lost its credentials"):
            await survives(api, tmp_path, Faults(monkeypatch), cut_between)


async def test_the_database_is_down(own_postgres, settings, tmp_path, monkeypatch):
    """The agent stays authenticated if the database stops during a refresh and is down until the access token has
    expired."""
    faults = Faults(monkeypatch)
    faults.left = 1
    stopped = asyncio.Event()

    async def stop_database(_: Faults, real: Refresh) -> object:
        await asyncio.to_thread(own_postgres.stop)
        stopped.set()
        return await real()

    own = replace(settings, database_url=own_postgres.url(), agent_access_token=2.0)
    async with running(own) as api, agent_behind_a_link(api, tmp_path, faults):
        operator_token_ends = time.monotonic() + 2.5
        faults.around(stop_database)
        await stopped.wait()
        await until(lambda: _true(time.monotonic() > operator_token_ends), "the access token's end")
        await asyncio.to_thread(own_postgres.start)


async def test_two_refreshes_at_once(api):
    """Of two simultaneous refreshes with one token, by socket and HTTP, either answer can be used, and then the other
    is rejected."""
    for kept in (0, 1) * 5:
        agent = await api.enrol(f"agent-{time.monotonic_ns()}")
        async with api.agent_socket(agent) as socket:
            await socket.send(HELLO_TEXT)
            await next_message(socket, "welcome")

            async def by_socket(socket=socket, agent=agent) -> str:
                await socket.send(json.dumps({"type": "refresh", "refresh_token": agent.refresh_token}))
                return (await next_message(socket, "tokens"))["refresh_token"]

            answers = await asyncio.gather(by_socket(), exchanged(api, agent.refresh_token))
            assert answers[0] != answers[1]
            newest = await exchanged(api, answers[kept])
            assert newest is not None
            assert await exchanged(api, answers[1 - kept]) is None, "somebody else holds it"
            assert await exchanged(api, newest) is None, "so nobody has any more"


async def test_both_answers_used_at_once(api):
    """If two holders use the two answers at once, at most one is accepted, and the next use revokes both."""
    agent = await api.enrol("held-twice")
    first, second = await asyncio.gather(*(exchanged(api, agent.refresh_token) for _ in range(2)))
    answers = await asyncio.gather(exchanged(api, first), exchanged(api, second))
    assert [answer is None for answer in answers].count(True) == 1
    good = next(answer for answer in answers if answer is not None)
    assert await exchanged(api, good) is None
    assert await alerts(api) == 1


async def exchanged(api, token: str | None) -> str | None:
    """The next refresh token, or None if this one is rejected."""
    response = await api.http.post("/v1/agents/token", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code in (200, 401), response.text
    return response.json().get("refresh_token")


async def alerts(api) -> int:
    async with await connect(api.database_url) as conn:
        row = await (await conn.execute("select count(*) as count from alerts")).fetchone()
    return row["count"]


async def _went_on(agent: RunningAgent, faults: Faults, times: int) -> bool:
    """Whether the agent, which still runs, has refreshed so often after the faults."""
    assert agent.process.returncode is None, "the agent has lost its credentials"
    return faults.done >= times


async def _true(condition: bool) -> bool:
    return condition
