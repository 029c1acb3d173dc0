"""Answering the requests of agents that wait for a person: by an operator or by a rule, once, and audited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import convert, to_builtins
from psycopg.rows import DictRow

from onsembl.fleet import instance_messages
from onsembl.fleet.commands import SendError, send_into_turn
from onsembl.fleet.instance_messages import InstanceMessage
from onsembl.protocol.attention_messages import (
    Allow,
    Answer,
    Answers,
    Asked,
    Decision,
    Deny,
    IdleBody,
    PermissionBody,
    PlanBody,
    QuestionBody,
    RequestBody,
)
from onsembl.protocol.attention_notes import NOTES
from onsembl.protocol.decisions import problem_with
from onsembl.protocol.ids import AgentId
from onsembl.protocol.tool_rules import ToolRules, ToolUse
from onsembl.sql import agents, attention, audit, tool_policies
from onsembl.sql.attention import Answerer, Scope
from onsembl.sql.database import Connection

HIDDEN = "•••"
"""Stands for a secret answer wherever it is stored or shown."""
MAX_AUDITED = 8 * 1024
"""How much of what was asked the audit log keeps, in characters; the digest names all of it."""


class AnswerError(Exception):
    """The request cannot be answered so; the text says why."""


class ForAdminsError(AnswerError):
    """Only an admin answers so: the policy `rule` of `by_name` keeps the tool for admins, or, without `by_name`, the
    answer has a CLI keep its own `rule`."""

    def __init__(self, rule: str, by_name: str | None = None) -> None:
        keeper = f"Only an admin answers this: {by_name} keeps {rule} for admins."
        super().__init__(keeper if by_name is not None else f"Only an admin lets a CLI keep a rule for good: {rule}")
        self.rule = rule
        self.by_name = by_name


class NotOpenError(AnswerError):
    """The request is not open any more, or asks something else by now; `row` is its present row."""

    def __init__(self, detail: str, row: DictRow) -> None:
        super().__init__(detail)
        self.row = row


async def record_asked(
    conn: Connection, agent_id: AgentId, asked: Asked
) -> Literal["open", "answered", "repeated", "refused"]:
    """Record a request of an agent; a policy that denies it, or a rule that allows it, answers it at once. No rule
    answers one that is kept for admins.

    `repeated`: it was recorded before, and may have been answered. `refused`: nobody will see it, and the agent is to
    be told so.
    """
    row = await attention.ask(conn, agent_id, asked)
    if row is None:
        return "repeated" if await attention.is_known(conn, agent_id, asked.request_id) else "refused"
    if not isinstance(asked.body, PermissionBody):
        return "open"
    policies = await tool_policies.in_force(conn, agent_id)
    use = _use_of(asked.body)
    if (denied := policies["deny"].denial(use)) is not None:
        by = Answerer(kind="rule", id=None, name=f"the policy {denied}"[:256])
        denial = Deny(reason="An admin of the control center denies this tool. Go on without it.")
        await _write_answer(conn, row, asked.body, denial, by, "once", audit.SYSTEM)
        return "answered"
    rules = await attention.rules_for(conn, agent_id, row["conversation_id"])
    allowed = ToolRules(allow=[rule["rule"] for rule in rules]).allowance(use) if rules else None
    if allowed is None or policies["admin"].denial(use) is not None:
        return "open"
    rule = next(rule for rule in rules if f"{allowed}, ".startswith(f"{rule['rule']}, "))
    by = Answerer(kind="rule", id=rule["id"], name=f"the rule {allowed}"[:256])
    await _write_answer(conn, row, asked.body, Allow(), by, "once", audit.SYSTEM)
    return "answered"


def refusal(asked: Asked) -> Answer:
    """The answer to a request that the server cannot record: a denial, because nobody sees it."""
    return Answer(
        request_id=asked.request_id,
        command_id=asked.command_id,
        digest=asked.digest,
        decision=Deny(reason="The control center could not show this request to anybody."),
        by="the control center",
    )


async def answer(
    conn: Connection,
    request_id: UUID,
    digest: str,
    decision: Decision,
    scope: Scope,
    rule: str | None,
    actor: audit.Actor,
    *,
    is_admin: bool = False,
) -> DictRow | None:
    """Answer a request as an operator, in the caller's transaction; return its row, None if there is no such request.

    With the scope `conversation` or `always`, `rule` allows later requests, too: it is one of those that the request
    offers, the narrowest by default. A request that is kept for admins takes the scope `once` only. The reason of a
    denial that the CLI is not told is sent as a text for the turn. An allowance that has the CLI keep a rule of its own
    is an admin's, of the scope `once`, and not for a tool that is kept for admins. Raises AnswerError, ForAdminsError,
    and NotOpenError when somebody or something was first.
    """
    before = await attention.get(conn, request_id)
    if before is None:
        return None
    if before["state"] != "open":
        raise NotOpenError(closed_in_words(before), before)
    if before["digest"] != digest:
        raise NotOpenError("The agent asks something else by now. Look at it again.", before)
    if before["kind"] in NOTES:
        raise AnswerError("This note has no answer: dismiss it.")
    try:
        body = convert(before["body"], RequestBody)
    except (msgspec.ValidationError, RecursionError) as error:
        raise AnswerError("What the agent asks cannot be read.") from error
    if (problem := problem_with(decision, body)) is not None:
        raise AnswerError(problem)
    cli_rule = decision.cli_rule if isinstance(decision, Allow) else None
    await _check_kept(
        conn, AgentId(before["agent_id"]), body, single=scope == "once" and cli_rule is None, is_admin=is_admin
    )
    if cli_rule is not None and not is_admin:
        raise ForAdminsError(cli_rule)
    if cli_rule is not None and scope != "once":
        raise AnswerError("A rule that the CLI keeps goes with the scope `once`.")
    if scope != "once":
        rule = _offered(rule, body, decision)
        if scope == "conversation" and before["conversation_id"] is None:
            raise AnswerError("The request belongs to no conversation.")
    elif rule is not None:
        raise AnswerError("A rule goes with the scope `conversation` or `always`.")
    by = Answerer(kind="operator", id=actor.id, name=actor.name)
    row = await _write_answer(conn, before, body, decision, by, scope, actor, rule)
    if row is None:
        now = await attention.get(conn, request_id)
        assert now is not None
        raise NotOpenError(closed_in_words(now), now)
    if rule is not None and scope != "once":
        await attention.add_rule(conn, row, rule, scope, actor.name)
    await _send_reason(conn, row, body, decision, actor)
    if (instance_id := await agents.online_at(conn, AgentId(row["agent_id"]))) is not None:
        await instance_messages.send(conn, instance_id, InstanceMessage(op="attend", agent_id=row["agent_id"]))
    return row


async def dismiss(conn: Connection, note_id: UUID, actor: audit.Actor) -> DictRow | None:
    """Close a note, in the caller's transaction; return its row, None if there is none of this id. Raises AnswerError
    for a request, which is answered, and NotOpenError."""
    row = await attention.dismiss(conn, note_id, actor.name)
    if row is None:
        now = await attention.get(conn, note_id)
        if now is None:
            return None
        if now["kind"] not in NOTES:
            raise AnswerError("An agent waits for this request: answer it.")
        raise NotOpenError(closed_in_words(now), now)
    detail: dict[str, object] = {
        "agent_id": str(row["agent_id"]),
        "command_id": str(row["command_id"]),
        "kind": row["kind"],
        "title": row["title"],
    }
    await audit.write(
        conn,
        audit.Event(
            actor=actor, action="attention.dismissed", target_kind="attention", target_id=str(note_id), detail=detail
        ),
    )
    return row


def closed_in_words(row: Mapping[str, Any]) -> str:
    """How a request was closed, as a sentence."""
    match row["state"]:
        case "answered":
            return f"It was answered by {row['answered_by_name']} before."
        case "withdrawn":
            return f"It was withdrawn: {row['reason']}"
        case _:
            return "The agent asks something else by now. Look at it again."


async def with_policies(conn: Connection, rows: Sequence[DictRow]) -> list[DictRow]:
    """The requests, each with the policy that keeps it for admins in `for_admins`: `rule` and `created_by_name`; None
    without one."""
    asking = {row["agent_id"] for row in rows if row["state"] == "open" and row["kind"] == "permission"}
    policies = await tool_policies.kept_for_admins(conn, asking) if asking else {}
    return [{**row, "for_admins": _keeper_of(row, policies)} for row in rows]


def _keeper_of(row: DictRow, policies: Mapping[AgentId, Sequence[DictRow]]) -> dict[str, str] | None:
    if row["state"] != "open" or row["kind"] != "permission" or row["agent_id"] not in policies:
        return None
    try:
        body = convert(row["body"], PermissionBody)
    except (msgspec.ValidationError, RecursionError):
        return None  # it cannot be answered either
    return _keeper(body, policies[row["agent_id"]])


def _keeper(body: PermissionBody, policies: Sequence[DictRow]) -> dict[str, str] | None:
    """The first of the policies that fits."""
    use = _use_of(body)
    kept = (policy for policy in policies if ToolRules(deny=[policy["rule"]]).denial(use) is not None)
    return next(({name: policy[name] for name in ("rule", "created_by_name")} for policy in kept), None)


async def _send_reason(
    conn: Connection, row: DictRow, body: RequestBody, decision: Decision, actor: audit.Actor
) -> None:
    """Send the reason of a denial as a text for the turn, if the CLI is not told it."""
    way = "told" if isinstance(body, PlanBody | IdleBody) else body.reason_way
    if way == "told" or not isinstance(decision, Deny) or not decision.reason or row["conversation_id"] is None:
        return
    text = f"Denied: {row['title']}\n{decision.reason}"
    try:
        await send_into_turn(conn, AgentId(row["agent_id"]), row["conversation_id"], text, actor)
    except SendError as error:
        raise AnswerError(f"The reason cannot be sent to the agent. {error}") from error


async def _check_kept(conn: Connection, agent_id: AgentId, body: RequestBody, *, single: bool, is_admin: bool) -> None:
    """Raises AnswerError if a policy keeps the request for admins, and this is no answer of one, or not for a single
    call."""
    if not isinstance(body, PermissionBody):
        return
    policies = (await tool_policies.kept_for_admins(conn, [agent_id])).get(agent_id, [])
    if (kept := _keeper(body, policies)) is None:
        return
    if not is_admin:
        raise ForAdminsError(kept["rule"], kept["created_by_name"])
    if not single:
        raise AnswerError(f"The policy {kept['rule']} keeps this tool for admins: each call is answered by itself.")


def _use_of(body: PermissionBody) -> ToolUse:
    return ToolUse(names=body.names, said=body.said, parts=body.parts)


def _offered(rule: str | None, body: RequestBody, decision: Decision) -> str:
    if not isinstance(body, PermissionBody) or not isinstance(decision, Allow):
        raise AnswerError("Only an allowance of a tool call can be kept as a rule.")
    if not body.rules:
        raise AnswerError("This tool call has no rule that could allow others like it.")
    if decision.input is not None:
        raise AnswerError("A changed tool call is allowed once only.")
    if rule is not None and rule not in body.rules:
        raise AnswerError(f"The request does not offer this rule. It offers {', '.join(body.rules)}.")
    return rule or body.rules[0]


async def _write_answer(
    conn: Connection,
    row: DictRow,
    body: RequestBody,
    decision: Decision,
    by: Answerer,
    scope: Scope,
    actor: audit.Actor,
    rule: str | None = None,
) -> DictRow | None:
    shown, is_secret = _without_secrets(decision, body)
    answered = await attention.answer(
        conn, row["id"], row["digest"], decision, shown=shown, is_secret=is_secret, by=by, scope=scope
    )
    if answered is None:
        return None
    detail: dict[str, object] = {
        "agent_id": str(row["agent_id"]),
        "command_id": str(row["command_id"]),
        "kind": row["kind"],
        "title": row["title"],
        "digest": row["digest"],
        "asked": msgspec.json.encode(body).decode()[:MAX_AUDITED],
        "decision": shown,
        "by": by.kind,
        "scope": scope,
    }
    if rule is not None:
        detail["rule"] = rule
    if isinstance(decision, Allow) and decision.cli_rule is not None and isinstance(body, PermissionBody):
        kept = next(kept for kept in body.cli_rules if kept.rule == decision.cli_rule)
        detail["cli_rule"] = to_builtins(kept)
    if by.kind == "rule":
        detail["rule"] = by.name.removeprefix("the rule ")
    await audit.write(
        conn,
        audit.Event(
            actor=actor, action="attention.answered", target_kind="attention", target_id=str(row["id"]), detail=detail
        ),
    )
    return answered


def _without_secrets(decision: Decision, body: RequestBody) -> tuple[dict[str, object], bool]:
    """The decision as it is stored and shown, and whether a secret is left out."""
    shown: dict[str, Any] = to_builtins(decision)
    if not isinstance(decision, Answers) or not isinstance(body, QuestionBody):
        return shown, False
    secret = {question.id for question in body.questions if question.secret}
    for one in shown["answers"]:
        if one["id"] in secret:
            one["answers"] = [HIDDEN]
    return shown, bool(secret)
