"""The agent's own tools for the coding CLI of one command: `ask_operator`, `notify` and `submit_report`. No I/O and no
clock.

A question stays open when its call ends without an answer, because a CLI waits only for some time: the call is told to
ask again, and the next call with the same question takes up the open one, or its answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast
from uuid import UUID, uuid4

from onsembl.agent.drivers.json_lines import Json, as_text, to_json
from onsembl.agent.drivers.request_bodies import UNANSWERED
from onsembl.agent.drivers.step_recorder import limited
from onsembl.agent.rendering.text import printable
from onsembl.protocol.attention_messages import (
    MAX_OPTIONS,
    Answers,
    Decision,
    Deny,
    Question,
    QuestionBody,
    QuestionOption,
    digest_of,
)
from onsembl.protocol.reports import SCHEMA, read_report
from onsembl.protocol.request_events import RequestOpened, RequestWithdrawn
from onsembl.protocol.turn_events import Notice, ReportSubmitted, TurnEvent
from onsembl.protocol.turn_steps import MAX_STEP_TEXT
from onsembl.protocol.work_clock import ASK_TOOL

ASK, NOTIFY, SUBMIT = ASK_TOOL, "notify", "submit_report"
MAX_TEXT = 2000
"""The most characters of a question, an option and a notice."""
MAX_NOTICES = 100
"""Of one command: a model in a loop does not fill the steps."""
MAX_SUBMISSIONS = 50
"""Of one command; each replaces the one before."""
PENDING = "Pending: the operator has not answered yet. Call ask_operator again with the same arguments to wait on."
DESCRIPTIONS: tuple[Json, ...] = (
    {
        "name": ASK,
        "title": "Ask the operator",
        "description": (
            "Ask the person who operates this agent, when you cannot go on without a decision or a fact that only a "
            "person has. Waits for the answer; it may take long. If the result says that the answer is pending, call "
            "again with the same arguments."
        ),
        "inputSchema": {
            "type": "object",
            "properties": {
                "question": {"type": "string", "maxLength": MAX_TEXT, "description": "The question, whole."},
                "options": {
                    "type": "array",
                    "items": {"type": "string", "maxLength": MAX_TEXT},
                    "maxItems": MAX_OPTIONS,
                    "description": "Answers to choose from. The operator may also answer in other words.",
                },
                "multiple": {"type": "boolean", "description": "Whether several options may be chosen."},
            },
            "required": ["question"],
        },
    },
    {
        "name": NOTIFY,
        "title": "Notify the operator",
        "description": "Show the person who operates this agent a short text. Does not wait.",
        "inputSchema": {
            "type": "object",
            "properties": {"text": {"type": "string", "maxLength": MAX_TEXT}},
            "required": ["text"],
        },
    },
    {
        "name": SUBMIT,
        "title": "Submit a report",
        "description": (
            "Submit the report of an investigation, a review or a plan to the person who operates this agent. It is a "
            "draft until your turn ends; submitting again in the same turn replaces it. If the report does not fit, "
            "the result says what is wrong: correct it and submit it again."
        ),
        "inputSchema": SCHEMA,
    },
)
NAMES = (ASK, NOTIFY, SUBMIT)

Reply = Callable[[str, bool], None]
"""Gives a call its result: a text, and whether the call failed."""


class OperatorTools:
    """`call`, `pend` and `give_up` return events to show; `answer` gives the waiting calls a decision."""

    def __init__(self) -> None:
        self._open: dict[UUID, tuple[str, list[Reply]]] = {}
        """The digest of each open question, and the calls that wait for its answer."""
        self._answers: dict[str, str] = {}
        """The answers that no call has got yet, by the digests of their questions."""
        self._notices = self._submissions = 0

    def call(self, tool: str, arguments: Json, reply: Reply) -> list[TurnEvent]:
        """Do what a call asks. A call that asks a question gets its reply later."""
        if tool == NOTIFY:
            return self._notify(as_text(arguments.get("text")), reply)
        if tool == SUBMIT:
            return self._submit(arguments, reply)
        body = _question(arguments)
        if isinstance(body, str):
            reply(body, True)
            return []
        digest = digest_of(body)
        if (answer := self._answers.pop(digest, None)) is not None:
            reply(answer, False)
            return []
        for open, replies in self._open.values():
            if open == digest:
                replies.append(reply)
                return []
        id = uuid4()
        self._open[id] = digest, [reply]
        return [RequestOpened(id=id, tool_call=ASK, title=body.questions[0].text, body=body)]

    def answer(self, request_id: UUID, decision: Decision) -> bool:
        """Give the calls that wait for a question its answer; whether the question is one of these tools. Without a
        call that waits now, the next one gets it."""
        if request_id not in self._open:
            return False
        digest, replies = self._open.pop(request_id)
        match decision:
            case Answers():
                text = "\n".join(text for answer in decision.answers for text in answer.answers)
            case Deny():
                text = decision.reason or UNANSWERED
            case _:
                text = UNANSWERED
        if not replies:
            self._answers[digest] = text
        for reply in replies:
            reply(text, False)
        return True

    def pend(self, reply: Reply) -> None:
        """Let a call end that has waited for long; its question stays open."""
        for _, replies in self._open.values():
            if reply in replies:
                replies.remove(reply)
                reply(PENDING, False)

    def give_up(self, reply: Reply) -> list[TurnEvent]:
        """The CLI does not wait for a call any more: its question is withdrawn, if no other call waits for it."""
        events: list[TurnEvent] = []
        for id, (_, replies) in list(self._open.items()):
            if reply in replies:
                replies.remove(reply)
                if not replies:
                    del self._open[id]
                    events.append(RequestWithdrawn(id=id, reason="The coding CLI has given the question up."))
        return events

    def end(self) -> None:
        """The turn is over: no question is open any more."""
        for _, replies in self._open.values():
            for reply in replies:
                reply("The turn is over.", True)
        self._open.clear()

    def _notify(self, text: str, reply: Reply) -> list[TurnEvent]:
        self._notices += 1
        if not text.strip() or len(text) > MAX_TEXT or self._notices > MAX_NOTICES:
            reply(f"Give a text of at most {MAX_TEXT} characters, at most {MAX_NOTICES} times in a turn.", True)
            return []
        reply("The operator was notified.", False)
        return [Notice(kind="information", text=f"Note for the operator: {text}")]

    def _submit(self, arguments: Json, reply: Reply) -> list[TurnEvent]:
        """Take a report. One that does not fit is taken, too, and the CLI is told why it does not."""
        self._submissions += 1
        if self._submissions > MAX_SUBMISSIONS:
            reply(f"A turn submits at most {MAX_SUBMISSIONS} reports; the last one is kept.", True)
            return []
        whole = to_json(arguments)
        text, omitted = limited(whole)
        if omitted:
            problem = f"as JSON it may have {MAX_STEP_TEXT:,} bytes; the last {omitted:,} are missing"
        else:
            problem = read_report(text).problem
        if problem is not None:
            reply(f"The report does not fit: {problem}. Correct it, and submit it again.", True)
        else:
            reply("The report was taken. It is a draft until your turn ends.", False)
        return [ReportSubmitted(text=whole)]


def _question(arguments: Json) -> QuestionBody | str:
    """The question that a call asks, or why it cannot be asked."""
    text, told = printable(as_text(arguments.get("question"))), arguments.get("options")
    listed = cast("list[object]", told) if isinstance(told, list) else []
    options = [printable(as_text(option)) for option in listed]
    if not text.strip() or max(map(len, [text, *options])) > MAX_TEXT or len(options) > MAX_OPTIONS:
        return f"Give a question of at most {MAX_TEXT} characters, and at most {MAX_OPTIONS} options."
    return QuestionBody(
        questions=[
            Question(
                id="1",
                text=text,
                options=[QuestionOption(label=option) for option in options],
                multiple=arguments.get("multiple") is True,
            )
        ]
    )
