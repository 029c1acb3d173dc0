"""Asks connected agents to show files of their working folders, and waits for their answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID, uuid4

from onsembl.protocol.files import FileRules, Look, LookPart, Seen, seen_of
from onsembl.protocol.ids import AgentId
from onsembl.protocol.json_input import InputError

ANSWER_SECONDS = 10.0
MAX_WAITING = 8
"""How many questions of one agent may wait for its answer."""


class LookFailed(Exception):
    """There is no answer; the text says why."""


class AgentSilent(LookFailed):
    """The agent did not answer in time."""


class Asked(Protocol):
    """The connection of an agent."""

    agent_id: AgentId

    async def send(self, message: Look) -> None: ...


@dataclass
class _Waiting:
    link: Asked
    answer: asyncio.Future[Seen]
    pieces: list[str] = field(default_factory=list[str])


class Looks:
    """The questions that wait for an answer."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, _Waiting] = {}

    async def look(self, link: Asked, path: str, rules: FileRules) -> Seen:
        """What the path names on the agent's machine. Raises LookFailed."""
        if sum(waiting.link.agent_id == link.agent_id for waiting in self._waiting.values()) >= MAX_WAITING:
            raise LookFailed("Too many questions about files wait for the agent. Try again.")
        request_id = uuid4()
        waiting = _Waiting(link, asyncio.get_running_loop().create_future())
        self._waiting[request_id] = waiting
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await link.send(Look(request_id=request_id, path=path, rules=rules))
                return await waiting.answer
        except TimeoutError as error:
            raise AgentSilent(f"The agent did not answer within {ANSWER_SECONDS:g} seconds.") from error
        finally:
            del self._waiting[request_id]

    def receive(self, link: Asked, part: LookPart) -> None:
        """Take a part of an answer. One for which nobody waits any more is dropped."""
        waiting = self._waiting.get(part.request_id)
        if waiting is None or waiting.link is not link or waiting.answer.done():
            return
        if part.number != len(waiting.pieces):
            waiting.answer.set_exception(LookFailed("The agent's answer is not complete."))
            return
        waiting.pieces.append(part.text)
        if part.last:
            try:
                waiting.answer.set_result(seen_of(waiting.pieces))
            except InputError as error:
                waiting.answer.set_exception(LookFailed(f"The agent's answer is not understood: {error}."))

    def gone(self, link: Asked) -> None:
        """The agent's connection is over: nobody waits for its answers any more."""
        for waiting in self._waiting.values():
            if waiting.link is link and not waiting.answer.done():
                waiting.answer.set_exception(LookFailed("The agent has lost its connection. Try again."))
