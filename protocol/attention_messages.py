"""Requests of an agent that wait for a person, and their answers, between the agent and its server.

A request is open from `asked` until it is answered, withdrawn, or its command ends. `asked` is repeated after each
reconnect while the request is open; so is `answer`, until `answer_taken`. `open_requests` follows the welcome: the
server withdraws each other open request of that agent. An answer is bound to the `digest` of its request: the agent
gives the CLI nothing when the digest is not that of its open request. `messages` has the whole protocol.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from onsembl.protocol.field_types import END, NO_NUL, Bounded, Message, Reason, ShortText, Time
from onsembl.protocol.tool_rules import Rule
from onsembl.protocol.turn_events import ToolKind
from onsembl.protocol.turn_steps import StepNumber

RequestKind = Literal["permission", "question", "plan", "elicitation", "idle"]
"""`permission`: a tool call. `question`: questions with options or free text. `plan`: a plan to approve. `elicitation`:
a form of an MCP server. `idle`: the program waits for input at its terminal; it has no answer, only a look."""

MAX_OPEN_REQUESTS = 64
"""The most open requests of one agent. The agent denies further ones itself."""
MAX_GIVEN_ANSWERS = 256
"""The most answers that are named after a welcome."""
MAX_BODY_BYTES = 256 * 1024
"""The most bytes of a body as JSON. The agent denies a longer request itself, because nobody would see all of it."""
MAX_BODY_TEXT = 64 * 1024
"""The most characters of an input, a plan or a form."""
MAX_QUESTIONS, MAX_OPTIONS = 8, 32
MAX_CLI_RULES, MAX_CLI_RULE_TEXT, MAX_CLI_RULE_FILE = 4, 1024, 4096

BodyText = Annotated[str, Meta(max_length=MAX_BODY_TEXT, pattern=NO_NUL)]
JsonText = Annotated[str, Meta(min_length=2, max_length=MAX_BODY_TEXT, pattern=NO_NUL)]
"""JSON as text. Whoever decodes it checks its depth."""
Digest = Annotated[str, Meta(min_length=64, max_length=64, pattern="^[0-9a-f]{64}" + END)]
OptionText = Annotated[str, Meta(max_length=2000, pattern=NO_NUL)]
CliRuleText = Annotated[str, Meta(min_length=1, max_length=MAX_CLI_RULE_TEXT, pattern=NO_NUL)]


ReasonWay = Literal["told", "steered", "next_command"]
"""The way of a denial's reason: the CLI is `told` it with the denial; or it takes none, and the reason is `steered`
into the running turn, or is sent as the `next_command` of the conversation."""


class CliRule(Bounded, frozen=True, kw_only=True):
    """A rule that the CLI would keep itself: for good, for all of its conversations, whoever runs it on the machine.

    `rule` is the line that it writes into `file`, a path on the agent's machine. Only an admin lets a CLI keep one.
    """

    rule: CliRuleText
    file: Annotated[str, Meta(min_length=1, max_length=MAX_CLI_RULE_FILE, pattern=NO_NUL)]


class PermissionBody(Bounded, frozen=True, kw_only=True, tag="permission", tag_field="kind"):
    """A tool call that needs permission.

    `input` is all of its arguments as JSON. `diff` is the change of files as a unified diff, if the call has one.
    `names`, `said` and `parts` are the call as rules see it (`tool_rules.ToolUse`). `rules` are those that would allow
    calls like this one, from the narrowest to the widest; a rule for later requests is one of these. `cli_rules` are
    those that the CLI offers to keep itself. `editable` is true when the CLI takes a changed input. `reason_way` is the
    way of a denial's reason.
    """

    tool: ShortText
    tool_kind: ToolKind
    folder: Annotated[str, Meta(max_length=4096, pattern=NO_NUL)] = ""
    input: JsonText
    diff: BodyText = ""
    reason: Reason = ""
    names: Annotated[list[ShortText], Meta(max_length=16)] = []
    said: Annotated[list[BodyText], Meta(max_length=256)] = []
    parts: Annotated[list[Annotated[list[BodyText], Meta(max_length=16)]], Meta(max_length=256)] = []
    rules: Annotated[list[Rule], Meta(max_length=4)] = []
    cli_rules: Annotated[list[CliRule], Meta(max_length=MAX_CLI_RULES)] = []
    editable: bool = False
    reason_way: ReasonWay = "told"


class QuestionOption(Bounded, frozen=True, kw_only=True):
    """One answer that a question offers."""

    label: OptionText
    description: OptionText = ""


class Question(Bounded, frozen=True, kw_only=True):
    """One question. `id` names it in the answer. `multiple`: several options may be chosen. `free_text`: any text is an
    answer. `secret`: the answer is shown to nobody, and kept only until the agent has it."""

    id: OptionText
    text: OptionText
    header: ShortText = ""
    options: Annotated[list[QuestionOption], Meta(max_length=MAX_OPTIONS)] = []
    multiple: bool = False
    free_text: bool = True
    secret: bool = False


class QuestionBody(Bounded, frozen=True, kw_only=True, tag="question", tag_field="kind"):
    """Questions that are answered together. `reason_way` is the way of the reason why they are not answered."""

    questions: Annotated[list[Question], Meta(min_length=1, max_length=MAX_QUESTIONS)]
    reason_way: ReasonWay = "told"


class PlanBody(Bounded, frozen=True, kw_only=True, tag="plan", tag_field="kind"):
    """A plan, as markdown, that is approved or sent back with a reason."""

    plan: BodyText


class FormBody(Bounded, frozen=True, kw_only=True, tag="elicitation", tag_field="kind"):
    """A form: a JSON schema of an object with plain fields. `server` is the MCP server that asks, if it is known.
    `reason_way` is the way of the reason why it is declined."""

    server: ShortText
    message: Reason
    schema: JsonText
    reason_way: ReasonWay = "told"


class IdleBody(Bounded, frozen=True, kw_only=True, tag="idle", tag_field="kind"):
    """The program waits for input at its terminal. `guess` is true when nothing said so but its silence."""

    text: Reason
    guess: bool = False


RequestBody = PermissionBody | QuestionBody | PlanBody | FormBody | IdleBody


def digest_of(body: RequestBody) -> str:
    """The SHA-256 digest, in hex, that names exactly what is asked. The agent makes it once for each request."""
    return hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()


# Agent to server


class GivenAnswer(Bounded, frozen=True, kw_only=True):
    """An answer that was written to the CLI."""

    request_id: UUID
    digest: Digest


class OpenRequests(Message, tag="open_requests", frozen=True, kw_only=True):
    """All open requests of the agent, right after the welcome. The server withdraws its other open ones. `given` are
    the last answers that were given to the CLI: their `answer_taken` may have been lost with the connection."""

    requests: Annotated[list[UUID], Meta(max_length=MAX_OPEN_REQUESTS)]
    given: Annotated[list[GivenAnswer], Meta(max_length=MAX_GIVEN_ANSWERS)] = []


class Asked(Message, tag="asked", frozen=True, kw_only=True):
    """The command waits for a person. `request_id` is made by the agent, once for each request of the CLI. `step` is
    that of the tool call. An `asked` with the same id and another digest replaces what was asked."""

    request_id: UUID
    command_id: UUID
    title: ShortText
    body: RequestBody
    digest: Digest
    step: StepNumber | None = None
    asked_at: Time


class Withdrawn(Message, tag="withdrawn", frozen=True, kw_only=True):
    """The CLI has given the request up, or it was answered at the machine. After a reconnect, its absence from
    `open_requests` says the same."""

    request_id: UUID
    command_id: UUID
    reason: Reason


class AnswerTaken(Message, tag="answer_taken", frozen=True, kw_only=True):
    """What became of an answer. `given`: it was written to the CLI, once. `late`: the request was not open any more, or
    had another digest; nothing was given to the CLI. An answer that is repeated gets the same `answer_taken` again. If
    the command ends before this message, nobody knows the fate until it comes."""

    request_id: UUID
    digest: Digest
    fate: Literal["given", "late"]


# Server to agent


class Allow(Bounded, frozen=True, kw_only=True, tag="allow", tag_field="decision"):
    """Allow this call, or approve this plan, once. `input` replaces the arguments (JSON), for an `editable` call. With
    `cli_rule`, one that the request offers, the CLI keeps that rule as well."""

    input: JsonText | None = None
    cli_rule: CliRuleText | None = None


class Deny(Bounded, frozen=True, kw_only=True, tag="deny", tag_field="decision"):
    """Deny the call, send the plan back, give no answer to the questions, or decline the form. The CLI gets the
    `reason`. With `cancel`, a form is closed without an answer, in place of being declined."""

    reason: Reason = ""
    cancel: bool = False


class QuestionAnswer(Bounded, frozen=True, kw_only=True):
    """The answer to one question: labels of chosen options, or free text."""

    id: OptionText
    answers: Annotated[list[OptionText], Meta(min_length=1, max_length=MAX_OPTIONS)]


class Answers(Bounded, frozen=True, kw_only=True, tag="answers", tag_field="decision"):
    """Answers to all questions of a request."""

    answers: Annotated[list[QuestionAnswer], Meta(min_length=1, max_length=MAX_QUESTIONS)]


class FilledForm(Bounded, frozen=True, kw_only=True, tag="form", tag_field="decision"):
    """The content of a form, as a JSON object."""

    content: JsonText


Decision = Allow | Deny | Answers | FilledForm


class Answer(Message, tag="answer", frozen=True, kw_only=True):
    """Give the CLI this decision on the open request. Repeated until `answer_taken`. `by` is shown in the terminal: an
    operator's name or a rule."""

    request_id: UUID
    command_id: UUID
    digest: Digest
    decision: Decision
    by: ShortText
