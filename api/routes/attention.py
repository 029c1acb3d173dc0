"""What agents ask of a person: list, read and answer it, and the rules that answer later requests."""

from __future__ import annotations

from functools import partial

from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import NoBody
from onsembl.api.http.paging import read_page
from onsembl.api.http.problems import FOR_ADMINS_PROBLEM, Problem, found
from onsembl.api.routes.attention_models import (
    AnswerBody,
    AnswerResults,
    AnswersBody,
    AttentionQuery,
    AttentionRequest,
    AttentionRequests,
    AttentionRule,
    AttentionRuleQuery,
    AttentionRules,
)
from onsembl.fleet.attention import AnswerError, ForAdminsError, NotOpenError, answer, dismiss, with_policies
from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import Role
from onsembl.sql import attention, audit
from onsembl.sql.attention import RequestFilter


async def list_requests(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(AttentionQuery)
    wanted = RequestFilter(
        state=query.state,
        agent_id=AgentId(query.agent_id) if query.agent_id is not None else None,
        command_id=query.command_id,
        kind=query.kind,
    )
    async with call.services.pool.connection() as conn:
        page = await read_page(query.limit, partial(attention.page, conn, wanted, query.after or 0))
        rows = await with_policies(conn, page.rows)
    return {"requests": rows, "next_after": page.cursor("seq")}


async def read_request(call: Call[NoBody]) -> DictRow:
    async with call.services.pool.connection() as conn:
        row = found(await attention.get(conn, call.id("attention_id")), "request")
        return (await with_policies(conn, [row]))[0]


async def answer_request(call: Call[AnswerBody]) -> DictRow:
    """The first answer counts: a later one gets 409 with who was first."""
    body = call.body
    try:
        async with call.services.pool.connection() as conn:
            row = await answer(
                conn,
                call.id("attention_id"),
                body.digest,
                body.decision,
                body.scope,
                body.rule,
                call.actor,
                is_admin=call.signed_in.role == Role.ADMIN,
            )
    except ForAdminsError as error:
        raise Problem(403, str(error), type=FOR_ADMINS_PROBLEM, rule=error.rule, by_name=error.by_name) from error
    except NotOpenError as error:
        raise Problem(409, str(error), state=error.row["state"]) from error
    except AnswerError as error:
        raise Problem(422, str(error)) from error
    if row is not None:
        call.services.metrics.request_answered(row)
    return _closed(found(row, "request"))


async def answer_requests(call: Call[AnswersBody]) -> dict[str, object]:
    """Each is answered in a transaction of its own."""
    results: list[dict[str, object]] = []
    is_admin = call.signed_in.role == Role.ADMIN
    for one in call.body.answers:
        row: DictRow | None = None
        problem: str | None = None
        try:
            async with call.services.pool.connection() as conn:
                row = await answer(
                    conn, one.id, one.digest, one.decision, one.scope, one.rule, call.actor, is_admin=is_admin
                )
        except NotOpenError as error:
            row, problem = error.row, str(error)
        except AnswerError as error:
            problem = str(error)
        else:
            problem = "Request not found." if row is None else None
            if row is not None:
                call.services.metrics.request_answered(row)
        results.append({"id": one.id, "request": _closed(row) if row is not None else None, "problem": problem})
    return {"results": results}


async def dismiss_note(call: Call[NoBody]) -> DictRow:
    """A request of an agent is answered in place of it."""
    try:
        async with call.services.pool.connection() as conn:
            row = await dismiss(conn, call.id("attention_id"), call.actor)
    except NotOpenError as error:
        raise Problem(409, str(error), state=error.row["state"]) from error
    except AnswerError as error:
        raise Problem(422, str(error)) from error
    return _closed(found(row, "note"))


def _closed(row: DictRow) -> DictRow:
    """A request that takes no answer any more."""
    return {**row, "for_admins": None}


async def list_rules(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(AttentionRuleQuery)
    agent_id = AgentId(query.agent_id) if query.agent_id is not None else None
    async with call.services.pool.connection() as conn:
        page = await read_page(query.limit, partial(attention.list_rules, conn, agent_id, query.before))
    return {"rules": page.rows, "next_before": page.cursor("seq")}


async def delete_rule(call: Call[NoBody]) -> DictRow:
    """Requests that it has answered stay answered."""
    async with call.services.pool.connection() as conn:
        row = found(await attention.delete_rule(conn, call.id("rule_id")), "rule")
        detail = {name: str(row[name]) for name in ("agent_id", "rule", "created_by_name")}
        await audit.write(
            conn,
            audit.Event(
                actor=call.actor,
                action="attention.rule_deleted",
                target_kind="attention_rule",
                target_id=str(row["id"]),
                detail=detail,
            ),
        )
    return row


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/attention",
        handler=list_requests,
        summary="List what agents ask, oldest first",
        answer=AttentionRequests,
        query=AttentionQuery,
    ),
    Endpoint(
        method="POST",
        path="/v1/attention/answers",
        handler=answer_requests,
        summary="Answer several requests of agents; each has a result of its own",
        body=AnswersBody,
        answer=AnswerResults,
        role=Role.OPERATOR,
    ),
    Endpoint(
        method="GET",
        path="/v1/attention/rules",
        handler=list_rules,
        summary="List the rules that answer requests of agents, newest first",
        answer=AttentionRules,
        query=AttentionRuleQuery,
    ),
    Endpoint(
        method="DELETE",
        path="/v1/attention/rules/{rule_id:uuid}",
        handler=delete_rule,
        summary="Delete a rule: requests like it wait for a person again",
        answer=AttentionRule,
        role=Role.OPERATOR,
        problems=(404,),
    ),
    Endpoint(
        method="GET",
        path="/v1/attention/{attention_id:uuid}",
        handler=read_request,
        summary="Read a request of an agent",
        answer=AttentionRequest,
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/attention/{attention_id:uuid}/answer",
        handler=answer_request,
        summary="Answer a request of an agent, once",
        body=AnswerBody,
        answer=AttentionRequest,
        role=Role.OPERATOR,
        problems=(404, 409),
    ),
    Endpoint(
        method="POST",
        path="/v1/attention/{attention_id:uuid}/dismiss",
        handler=dismiss_note,
        summary="Dismiss a note: of a failed turn, or of a usage limit",
        answer=AttentionRequest,
        role=Role.OPERATOR,
        problems=(404, 409, 422),
    ),
]
