"""Agents that ask: bare sockets, which run a command for as long as a test wants, and send requests for a person."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
from support.agents import Operator
from support.frames import HELLO, next_message
from support.server import Api, Enrolled

from onsembl.protocol.attention_messages import PermissionBody, RequestBody, digest_of

RUN = PermissionBody(
    tool="Bash",
    tool_kind="execute",
    folder="/work",
    input='{"command":"npm test"}',
    names=["Bash", "execute"],
    said=["npm test"],
    parts=[["npm test"]],
    rules=["Bash(npm test)", "Bash(npm *)"],
    editable=True,
)


class AskingAgent:
    """An agent that runs a command and asks."""

    def __init__(self, agent: Enrolled, socket, command: dict) -> None:
        self.agent, self.socket, self.command = agent, socket, command
        self._answered: set[str] = set()

    async def ask(
        self, body: RequestBody = RUN, id: str | None = None, title: str = "npm test", step: int | None = None
    ) -> dict:
        asked = {
            "type": "asked",
            "request_id": id or str(uuid4()),
            "command_id": self.command["id"],
            "title": title,
            "body": msgspec.to_builtins(body),
            "digest": digest_of(body),
            "step": step,
            "asked_at": datetime.now(UTC).isoformat(),
        }
        await self.socket.send(json.dumps(asked))
        return asked

    async def tell(self, **message: object) -> None:
        await self.socket.send(json.dumps(message))

    async def answer(self) -> dict:
        """The next answer to another request: each comes again until the instance has written that it was taken."""
        while (answer := await next_message(self.socket, "answer"))["request_id"] in self._answered:
            pass
        self._answered.add(answer["request_id"])
        return answer

    async def taken(self, answer: dict, fate: str = "given") -> None:
        await self.tell(type="answer_taken", request_id=answer["request_id"], digest=answer["digest"], fate=fate)

    async def end(self, outcome: str = "succeeded", **fields: object) -> None:
        end = {"type": "ended", "command_id": self.command["id"], "outcome": outcome, **fields}
        await self.tell(**end, ended_at=datetime.now(UTC).isoformat())
        await next_message(self.socket, "end_recorded")


@asynccontextmanager
async def connected(
    api: Api, agent: Enrolled, command: dict, open_ids: list[str] | None = None, *, takes_steers: bool = False
):
    """The agent, which runs the command already, on a connection of its own."""
    started = {"command_id": command["id"], "started_at": datetime.now(UTC).isoformat(), "output_start": 0}
    async with api.agent_socket(agent) as socket:
        hello = {**HELLO, "kind": "claude", "takes_answers": True, "takes_steers": takes_steers, "running": [started]}
        await socket.send(json.dumps(hello))
        welcome = await next_message(socket, "welcome")
        assert welcome["takes_requests"]
        asking = AskingAgent(agent, socket, command)
        await asking.tell(type="open_requests", requests=open_ids or [])
        yield asking


@asynccontextmanager
async def running(
    api: Api, operator: Operator, name: str = "one", agent: Enrolled | None = None, *, takes_steers: bool = False
):
    """An agent that begins a command."""
    agent = agent or await api.enrol(name, "claude")
    command = await operator.send(agent.id, "do it", conversation="latest")
    async with connected(api, agent, command, takes_steers=takes_steers) as asking:
        yield asking
