"""Connects the fleet of the pictures: each agent by the agents' protocol, on a socket of its own, with a past."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import psycopg
from psycopg.types.json import Jsonb
from support.frames import HELLO, next_message
from support.pictured_agents import COLUMNS, FLEET, MODELS, REPORTS, ROWS, PicturedAgent
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from onsembl.protocol.attention_messages import digest_of
from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.messages import AGENT_SUBPROTOCOL, encode_output
from onsembl.sql import reports
from onsembl.sql.database import connect as sql_connection

PLATFORM = "Linux x86_64"
CHUNK = 16 * 1024
OUTCOMES = {"offline": "succeeded", "paused": "succeeded", "problem": "failed", "limited": "failed"}
PAST = (
    *("Why is CI slower since Monday?", "Write tests for the parser of addresses.", "Update the changelog."),
    *("Find dead code in the templates.", "Make the error of an empty basket readable.", "Review the open branches."),
    *("Split the settings by environment.", "What does the cache cost us?", "Remove the feature flag new-basket."),
)
PAST_OF_SHELLS = (
    "make test",
    "make lint",
    "git pull --rebase",
    "make release VERSION=2.30.4",
    "df -h",
    "make clean all",
)
DAYS = 20
COMING_LINES, LINE_SECONDS = 14, (1.0, 6.0)
"""How many lines come one by one while an agent works, and the time between two of them."""
REPORTING = """
    insert into commands (agent_id, text, state, preset, requested_by_name, created_at, started_at, ended_at)
    values (%(agent)s, %(preset)s || ' it.', 'succeeded', %(preset)s, 'ada@example.org', now() - %(ago)s,
        now() - %(ago)s, now() - %(ago)s) returning id"""
DATES = (
    """update onsembl.commands set created_at = created_at - %(ago)s, dispatched_at = dispatched_at - %(ago)s,
           started_at = started_at - %(ago)s, ended_at = ended_at - %(since)s
       where agent_id = %(agent)s and created_at > now() - interval '10 min' and state <> 'queued'""",
    """update onsembl.commands set created_at = created_at - %(queued)s
       where agent_id = %(agent)s and state = 'queued'""",
    "update onsembl.attention set asked_at = asked_at - %(since)s where agent_id = %(agent)s",
    """update onsembl.agents set limited_since = limited_since - %(since)s, problem_since = problem_since - %(since)s,
           paused_at = paused_at - %(since)s, disconnected_at = disconnected_at - %(since)s,
           connected_at = connected_at - interval '9 h'
       where id = %(agent)s""",
)
AT_ONCE = 4
"""How many agents are enrolled, and begin to work, at the same time: a busy machine answers no more."""
BEGIN_SECONDS, END_SECONDS = 180.0, 60.0
PAST_COMMANDS = """
    insert into onsembl.commands (agent_id, text, state, requested_by_name, created_at, dispatched_at, started_at)
    values (%(agent)s, %(text)s, 'running', %(by)s, %(at)s, %(at)s, %(at)s) returning id"""
PAST_ENDS = """
    update onsembl.commands set state = %(state)s, exit_code = %(code)s, ended_at = %(ended)s, usage = %(usage)s
    where id = %(id)s"""


class PicturedLink:
    """The connection of one agent, which answers pings until it is closed."""

    def __init__(self, agent: PicturedAgent, id: str, socket: ClientConnection) -> None:
        self.agent, self.id = agent, id
        self._socket = socket
        self._end = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Greet, and show what the terminal has shown."""
        agent = self.agent
        hello = {**HELLO, "kind": agent.kind, "host": agent.host, "platform": PLATFORM, "version": "0.1.0"}
        hello |= {"columns": COLUMNS, "rows": ROWS, "takes_answers": True, "takes_steers": True, "cli": agent.cli}
        await self._tell(**hello)
        await next_message(self._socket, "welcome")
        await self._tell(type="open_requests", requests=[])

    async def write(self, text: str) -> None:
        data = text.replace("\n", "\r\n").encode()
        for start in range(0, len(data), CHUNK):
            await self._socket.send(encode_output(self._end, data[start : start + CHUNK]))
            self._end += len(data[start : start + CHUNK])

    async def work(self) -> None:
        """Take the command that was sent, show its output, and come to the agent's state."""
        agent = self.agent
        offer = await next_message(self._socket, "offer")
        about = {"command_id": offer["command_id"], "started_at": now(), "output_start": self._end}
        await self._tell(type="accepted", **about)
        shown = agent.shown.splitlines(keepends=True)
        coming = shown[-COMING_LINES:] if agent.state == "working" else []
        await self.write("".join(shown[: len(shown) - len(coming)]))
        if coming:
            self._tasks.append(asyncio.create_task(self._go_on(coming)))
        if agent.asks is not None:
            title, body = agent.asks
            await self._tell(
                type="asked",
                request_id=str(uuid4()),
                command_id=offer["command_id"],
                title=title,
                body=msgspec.to_builtins(body),
                digest=digest_of(body),
                asked_at=now(),
            )
        elif agent.state != "working":
            await self._end_command(about)
        if agent.state == "problem":
            await self._tell(type="problem", problem="no space left on /srv (0 of 480 GB are free)", number=1)
        self._tasks.append(asyncio.create_task(self._stay()))

    async def _end_command(self, about: Mapping[str, Any]) -> None:
        agent = self.agent
        outcome = OUTCOMES.get(agent.state, agent.state)
        exit_code = {"succeeded": 0, "failed": 2}.get(outcome)
        end = {"outcome": outcome, "ended_at": now(), "output_end": self._end, "exit_code": exit_code}
        if agent.state == "limited":
            resets_at = (datetime.now(UTC) + timedelta(minutes=agent.minutes + 20)).isoformat()
            windows = [
                {"name": "five_hour", "status": "rejected", "used": 1.0, "resets_at": resets_at},
                {"name": "seven_day", "status": "warning", "used": 0.82},
            ]
            end["turn"] = {"windows": windows, "limit": {"resets_at": resets_at, "untouched": True}}
        await self._tell(type="ended", **about, **end)
        await next_message(self._socket, "end_recorded")

    async def _go_on(self, lines: Sequence[str]) -> None:
        """Show the last lines one by one, as a program does that works."""
        for line in lines:
            await asyncio.sleep(random.uniform(*LINE_SECONDS))
            await self.write(line)

    async def _stay(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                if json.loads(await self._socket.recv())["type"] == "ping":
                    await self._tell(type="pong")

    async def _tell(self, **message: Any) -> None:
        await self._socket.send(json.dumps(message))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._socket.close()


class PicturedFleet:
    """The agents, their past and their connections. `operators` are the headers of those who send the commands."""

    def __init__(self, url: str, operators: Sequence[Mapping[str, str]], database_url: str) -> None:
        self._url = url
        self._operators = operators
        self._database_url = database_url
        self._links: list[PicturedLink] = []
        self._few = asyncio.Semaphore(AT_ONCE)

    async def begin(self) -> None:
        """Enrol all agents, connect them, and bring each to its state."""
        async with httpx.AsyncClient(base_url=self._url, timeout=60) as http:
            links = await asyncio.gather(*(self._connect(http, agent) for agent in FLEET))
            await asyncio.to_thread(self._remember, {link.id: link.agent for link in links})
            await self._report({link.agent.name: link.id for link in links})
            await asyncio.gather(*(self._work(http, number, link) for number, link in enumerate(links)))
        self._links = [link for link in links if link.agent.state != "offline"]
        await asyncio.to_thread(self._date, links)

    async def _connect(self, http: httpx.AsyncClient, agent: PicturedAgent) -> PicturedLink:
        async with self._few:
            body = {"name_pattern": agent.name}
            token = (await self._post(http, "/v1/enrolment-tokens", body, self._operators[0]))["token"]
            made = await self._post(http, "/v1/agents/enrol", {"name": agent.name, "kind": agent.kind}, bearer(token))
        socket = await connect(
            self._url.replace("http", "ws", 1) + "/v1/agent",
            subprotocols=[AGENT_SUBPROTOCOL],  # type: ignore[list-item]
            additional_headers=bearer(made["access_token"]),
            compression=None,
            ping_interval=None,
            max_size=None,
        )
        link = PicturedLink(agent, made["agent_id"], socket)
        await link.begin()
        return link

    async def _work(self, http: httpx.AsyncClient, number: int, link: PicturedLink) -> None:
        async with self._few:
            await self._begin_work(http, number, link)

    async def _begin_work(self, http: httpx.AsyncClient, number: int, link: PicturedLink) -> None:
        operator = self._operators[number % len(self._operators)]
        path = f"/v1/agents/{link.id}"
        conversation = {"conversation": "new"} if link.agent.kind.converses else {}
        await self._post(http, f"{path}/commands", {"text": link.agent.text, **conversation}, operator)
        await link.work()
        if link.agent.state == "paused":
            await self._post(http, f"{path}/pause", {}, operator)
        for text in link.agent.queued:
            await self._post(http, f"{path}/commands", {"text": text, **conversation}, operator)
        if link.agent.state == "offline":
            await link.close()

    async def _post(
        self, http: httpx.AsyncClient, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Any:
        answer = await http.post(path, json=body, headers=headers)
        assert answer.is_success, f"{path}: {answer.text}"
        return answer.json() if answer.content else None

    def _remember(self, agents: Mapping[str, PicturedAgent]) -> None:
        """Give the agents labels and the commands of the last days, with what they have used."""
        today = datetime.now(UTC)
        with psycopg.connect(self._database_url) as conn:
            for id, agent in agents.items():
                conn.execute("update onsembl.agents set labels = %s where id = %s", [list(agent.labels), id])
            past = sorted(
                (today - timedelta(days=day, hours=(number * 7) % 11, minutes=(number * 13) % 60), number, id, agent)
                for number, (id, agent) in enumerate(agents.items())
                for day in range(1, DAYS)
                if (day * 3 + number * 5) % 7 < 2 + number % 3
            )
            for at, number, id, agent in past:
                self._add_past(conn, at, number + at.day, id, agent)

    def _add_past(self, conn: psycopg.Connection, at: datetime, number: int, id: str, agent: PicturedAgent) -> None:
        texts = PAST if agent.kind.converses else PAST_OF_SHELLS
        state = "failed" if number % 9 == 4 else "cancelled" if number % 17 == 5 else "succeeded"
        by = ("ada@example.org", "ben@example.org", "chen@example.org", "schedule nightly-tests")[number % 4]
        row = {"agent": id, "text": texts[number % len(texts)], "by": by, "at": at}
        command = conn.execute(PAST_COMMANDS, row).fetchone()
        assert command is not None
        tokens = 9_000 + number * 7919 % 60_000
        usage = {
            "input_tokens": tokens,
            "output_tokens": tokens // 7,
            "cache_read_tokens": tokens * 9,
            "model": MODELS.get(agent.kind, ""),
            "cost_usd": round(tokens * 2.6e-5, 4),
        }
        ended = {"ended": at + timedelta(seconds=20 + number * 37 % 900), "code": 1 if state == "failed" else 0}
        ended |= {"usage": Jsonb(usage) if agent.kind.converses else None, "state": state, "id": command[0]}
        conn.execute(PAST_ENDS, ended)

    async def _report(self, ids: Mapping[str, str]) -> None:
        async with await sql_connection(self._database_url, autocommit=True) as conn:
            for hours, (name, preset, report) in enumerate(reversed(REPORTS), 2):
                row = {"agent": ids[name], "preset": preset, "ago": timedelta(hours=hours * 5)}
                made = await (await conn.execute(REPORTING, row)).fetchone()
                assert made is not None
                text = json.dumps(report)
                await reports.write(conn, AgentId(UUID(ids[name])), CommandId(made["id"]), text, 0)
                await conn.execute(
                    "update reports set created_at = now() - %(ago)s where command_id = %(id)s",
                    row | made,
                )

    def _date(self, links: Sequence[PicturedLink]) -> None:
        """Move what has happened just now to the agent's time: the server takes no time of the past."""
        with psycopg.connect(self._database_url, autocommit=True) as conn:
            for link in links:
                ago = timedelta(minutes=link.agent.minutes)
                row = {"agent": UUID(link.id), "ago": ago, "since": ago * 0.6, "queued": ago * 0.3}
                for statement in DATES:
                    conn.execute(statement, row)

    async def end(self) -> None:
        await asyncio.gather(*(link.close() for link in self._links))


def now() -> str:
    return datetime.now(UTC).isoformat()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def pictured_fleet(url: str, operators: Sequence[Mapping[str, str]], database_url: str) -> Generator[None]:
    """The fleet, connected until the block ends; its loop runs in a thread, beside the browser's."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    fleet = PicturedFleet(url, operators, database_url)
    try:
        asyncio.run_coroutine_threadsafe(fleet.begin(), loop).result(BEGIN_SECONDS)
        yield
    finally:
        asyncio.run_coroutine_threadsafe(fleet.end(), loop).result(END_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
