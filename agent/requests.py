"""The requests of an agent that wait for a person: each is open until it is answered, once, or withdrawn. No I/O.

A request that cannot be open is denied at once: the server takes none, too many are open, or it is too long to be read.
Nothing is ever allowed here; an allowance is always the decision of an answer that names exactly what was asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import msgspec

from onsembl.protocol.attention_messages import (
    MAX_BODY_BYTES,
    MAX_GIVEN_ANSWERS,
    MAX_OPEN_REQUESTS,
    Allow,
    Answer,
    Answers,
    AnswerTaken,
    Asked,
    Decision,
    Deny,
    GivenAnswer,
    PlanBody,
    QuestionBody,
    RequestBody,
    Withdrawn,
)
from onsembl.protocol.attention_messages import OpenRequests as OpenRequestsMessage
from onsembl.protocol.decisions import problem_with
from onsembl.protocol.messages import BadMessage, Message, encode_for_server

NOBODY = "nobody could be asked"
TOO_MANY = f"{NOBODY}: {MAX_OPEN_REQUESTS} requests are open"
TOO_LONG = f"{NOBODY}: the request is too long to be shown"


@dataclass(frozen=True, slots=True)
class Taken:
    """What becomes of an answer. The CLI is to be given `decision` now, if there is one."""

    fate: Literal["given", "late"]
    decision: Decision | None = None


class Requests:
    """The open requests of one agent. `send` passes a message to the server; without a connection it is dropped, for
    `messages_after_welcome` has all that is open."""

    def __init__(self) -> None:
        self.send: Callable[[Message], None] = lambda _message: None
        self._open: dict[UUID, Asked] = {}
        self._given: dict[UUID, str] = {}
        """The digests of the requests that were answered last, by their ids: the `answer_taken` may be lost."""
        self._server_takes = False

    def open_of(self, command_id: UUID) -> list[UUID]:
        """The open requests of a command, in their order."""
        return [id for id, asked in self._open.items() if asked.command_id == command_id]

    def messages_after_welcome(self, *, server_takes: bool) -> list[Message]:
        """What a server is told at the beginning of a connection. Without `server_takes` it is told nothing, and
        whoever owns the open requests should deny them."""
        self._server_takes = server_takes
        if not server_takes:
            return []
        given = [GivenAnswer(request_id=id, digest=digest) for id, digest in self._given.items()]
        return [OpenRequestsMessage(requests=list(self._open), given=given), *self._open.values()]

    def ask(self, asked: Asked) -> str | None:
        """Open a request, or replace an open one of the same id; return the reason if it is to be denied instead."""
        if not self._server_takes:
            return NOBODY
        if len(self._open) >= MAX_OPEN_REQUESTS and asked.request_id not in self._open:
            return TOO_MANY
        try:
            encode_for_server(asked)
            long = len(msgspec.json.encode(asked.body)) > MAX_BODY_BYTES
        except BadMessage:
            long = True
        if long:
            return TOO_LONG
        self._open[asked.request_id] = asked
        self.send(asked)
        return None

    def take(self, answer: Answer) -> Taken:
        """Decide what becomes of an answer. A decision that the request does not take is a denial."""
        asked = self._open.get(answer.request_id)
        if asked is None or asked.digest != answer.digest:
            return Taken("given" if self._given.get(answer.request_id) == answer.digest else "late")
        del self._open[answer.request_id]
        if (problem := problem_with(answer.decision, asked.body)) is not None:
            return Taken("late", Deny(reason=problem))
        self._given[answer.request_id] = answer.digest
        if len(self._given) > MAX_GIVEN_ANSWERS:
            del self._given[next(iter(self._given))]
        return Taken("given", answer.decision)

    def not_given(self, answer: Answer) -> None:
        """Note that the decision of an answer could not be given to the CLI after all."""
        self._given.pop(answer.request_id, None)

    def withdraw(self, request_id: UUID, reason: str) -> Asked | None:
        """Close a request without a decision; return it if it was open."""
        asked = self._open.pop(request_id, None)
        if asked is not None:
            self.send(Withdrawn(request_id=request_id, command_id=asked.command_id, reason=reason))
        return asked


def answer_taken(answer: Answer, fate: Literal["given", "late"]) -> AnswerTaken:
    """The reply to an answer."""
    return AnswerTaken(request_id=answer.request_id, digest=answer.digest, fate=fate)


def in_words(decision: Decision, body: RequestBody, by: str) -> str:
    """A decision and who made it, as a sentence. Secret answers are not in it."""
    match decision:
        case Allow():
            verb = "Approved" if isinstance(body, PlanBody) else "Allowed"
            changed = ", with a changed input" if decision.input is not None else ""
            kept = f", and the CLI keeps the rule {decision.cli_rule}" if decision.cli_rule is not None else ""
            return f"{verb} by {by}{changed}{kept}."
        case Deny() if decision.cancel:
            return f"Closed by {by} without an answer."
        case Deny():
            return f"Denied by {by}: {decision.reason}" if decision.reason else f"Denied by {by}."
        case Answers():
            return f"Answered by {by}: {'; '.join(_answers(decision, body))}"
        case _:
            return f"Filled in by {by}."


def _answers(decision: Answers, body: RequestBody) -> list[str]:
    questions = {question.id: question for question in body.questions} if isinstance(body, QuestionBody) else {}
    return [
        "•••" if (question := questions.get(answer.id)) is None or question.secret else ", ".join(answer.answers)
        for answer in decision.answers
    ]
