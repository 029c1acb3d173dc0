"""Models of requests that wait for a person."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from onsembl.api.http.models import Answer, Body, PageQuery, Query, Time
from onsembl.protocol.attention_messages import (
    MAX_QUESTIONS,
    Allow,
    Answers,
    Decision,
    Deny,
    Digest,
    FilledForm,
    QuestionAnswer,
)
from onsembl.protocol.attention_notes import AttentionBody, AttentionKind
from onsembl.protocol.field_types import RowNumber
from onsembl.protocol.tool_rules import Rule

RequestState = Literal["open", "answered", "withdrawn"]
AnswerScope = Literal["once", "conversation", "always"]
MAX_ANSWERS = 200


class AdminPolicy(Answer, frozen=True, kw_only=True):
    """A policy that keeps a tool for admins: its rule, and who made it."""

    rule: str
    created_by_name: str


class AttentionRequest(Answer, frozen=True, kw_only=True):
    """A request of an agent that waits, or waited, for a person. Kinds: `permission` (a tool call), `question`, `plan`,
    `elicitation` (a form), and `idle`: a program that waits for input at its terminal, which has no answer here. Notes
    of the control center are listed with them, `failed` and `limit`: no agent waits, and a person dismisses them.

    `body` is what is asked, `digest` names it. With `guess`, nothing says that the program waits but its silence.
    `step` is the number of the tool call's step. An answered request has the `decision` without secret answers, and in
    `answered_by_name` the operator or the rule that was first; `delivery` is what became of the answer: the agent's CLI
    was `given` it, it came too `late`, or the command ended before the agent said which (`unknown`). A withdrawn one
    has a `reason`. Only an admin answers an open one with a policy in `for_admins`.
    """

    id: UUID
    seq: int
    agent_id: UUID
    command_id: UUID
    conversation_id: UUID | None
    kind: AttentionKind
    title: str
    body: AttentionBody
    digest: str
    step: int | None
    guess: bool
    state: RequestState
    asked_at: Time
    closed_at: Time | None
    decision: Decision | None
    answered_by_kind: Literal["operator", "rule"] | None
    answered_by: UUID | None
    answered_by_name: str | None
    scope: AnswerScope | None
    delivery: Literal["waiting", "given", "late", "unknown"] | None
    reason: str | None
    for_admins: AdminPolicy | None


class AttentionRequests(Answer, frozen=True, kw_only=True):
    """A page of requests, oldest first; `next_after` is where the next page starts, null on the last page."""

    requests: list[AttentionRequest]
    next_after: int | None


class AttentionQuery(Query, frozen=True, kw_only=True):
    """A filter of requests, and the page after the request `after`."""

    state: RequestState | None = None
    agent_id: UUID | None = None
    command_id: UUID | None = None
    kind: AttentionKind | None = None
    after: RowNumber | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class AllowRequest(Allow, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="allow", tag_field="decision"):
    """Allow this call, or approve this plan. `input` replaces the arguments (JSON), for an `editable` call."""


class DenyRequest(Deny, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="deny", tag_field="decision"):
    """Deny the call, send the plan back, or give no answer to the questions or the form. The CLI gets the `reason`."""


class GivenAnswer(QuestionAnswer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer to one question: labels of chosen options, or free text."""


class GivenAnswers(Answers, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="answers", tag_field="decision"):
    """Answers to all questions of a request."""

    answers: Annotated[list[GivenAnswer], Meta(min_length=1, max_length=MAX_QUESTIONS)]  # pyright: ignore[reportIncompatibleVariableOverride]


class FilledInForm(FilledForm, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="form", tag_field="decision"):
    """The content of a form, as a JSON object."""


class AnswerBody(Body, frozen=True, kw_only=True):
    """The answer to a request with this `digest`. With the scope `conversation` or `always`, `rule` allows later tool
    calls like this one, in its conversation or in all of the agent's: one of the rules that the request offers, the
    first by default."""

    digest: Digest
    decision: AllowRequest | DenyRequest | GivenAnswers | FilledInForm
    scope: AnswerScope = "once"
    rule: Rule | None = None


class OneAnswer(AnswerBody, frozen=True, kw_only=True):
    """The answer to one of several requests."""

    id: UUID


class AnswersBody(Body, frozen=True, kw_only=True):
    """Answers to several requests; each has a result of its own."""

    answers: Annotated[list[OneAnswer], Meta(min_length=1, max_length=MAX_ANSWERS)]


class AnswerResult(Answer, frozen=True, kw_only=True):
    """What became of one answer: the request as it is now, null if there is none; and why it was not answered, if it
    was not."""

    id: UUID
    request: AttentionRequest | None
    problem: str | None


class AnswerResults(Answer, frozen=True, kw_only=True):
    """The results of several answers, in their order."""

    results: list[AnswerResult]


class AttentionRule(Answer, frozen=True, kw_only=True):
    """A rule that answers requests of the agent: of one conversation, or, without one, of all. It was made with the
    answer to the request `attention_id`."""

    id: UUID
    seq: int
    agent_id: UUID
    conversation_id: UUID | None
    rule: str
    attention_id: UUID
    created_at: Time
    created_by_name: str


class AttentionRules(Answer, frozen=True, kw_only=True):
    """A page of rules, newest first; `next_before` is where the next page starts, null on the last page."""

    rules: list[AttentionRule]
    next_before: int | None


class AttentionRuleQuery(PageQuery, frozen=True, kw_only=True):
    """A filter of rules."""

    agent_id: UUID | None = None
