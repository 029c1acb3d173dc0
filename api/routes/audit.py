"""The audit log: pages, an export, and the state of its hash chain."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta
from starlette.responses import Response, StreamingResponse

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Answer, Body, NoBody, Query, Time
from onsembl.api.http.paging import read_page
from onsembl.api.http.problems import Problem
from onsembl.api.services import Services
from onsembl.fleet import audit_export
from onsembl.fleet.audit_seal import verification
from onsembl.protocol.field_types import END, NO_NUL, RowNumber
from onsembl.protocol.states import Role
from onsembl.sql import audit, audit_chain, audit_log
from onsembl.sql.audit_log import EventFilter

Head = Annotated[str, Meta(max_length=64, pattern="^[0-9a-f]{64}" + END)]
Part = Annotated[str, Meta(max_length=200, pattern=NO_NUL)]


class AuditEvent(Answer, frozen=True, kw_only=True):
    """An event of the audit log."""

    id: int
    at: Time
    actor_kind: str
    actor_id: UUID | None
    actor_name: str
    action: str
    target_kind: str
    target_id: str
    address: str
    outcome: str
    detail: Annotated[dict[str, Any], Meta(extra_json_schema={"additionalProperties": True})]


class AuditPage(Answer, frozen=True, kw_only=True):
    """A page of the audit log, newest first; `next_before` is where the next page starts, null on the last page."""

    events: list[AuditEvent]
    next_before: int | None


class AuditChain(Answer, frozen=True, kw_only=True):
    """The state of the audit log's hash chain: the number, the hash and the time of its last link, and the number of
    `unsealed` rows, which have no link yet."""

    seq: int
    hash: str
    at: Time
    unsealed: int


class AuditFilter(Query, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The events to read; see `EventFilter` in `sql/audit_log.py`."""

    since: Time | None = None
    until: Time | None = None
    actor: Part | None = None
    action: Part | None = None
    target: Part | None = None
    outcome: Literal["ok", "refused", "failed"] | None = None
    address: Part | None = None
    text: Part | None = None

    def event_filter(self) -> EventFilter:
        return EventFilter(**{name: getattr(self, name) for name in EventFilter.__dataclass_fields__})


class AuditQuery(AuditFilter, frozen=True, kw_only=True):
    """A page of the log, newest first."""

    before: RowNumber | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


class AuditExport(AuditFilter, frozen=True, kw_only=True):
    """Every matching event, oldest first."""

    format: Literal["jsonl", "csv"] = "jsonl"


class AuditVerify(Body, frozen=True, kw_only=True):
    """Which head hashes of earlier verifications, in hex, must be in the chain."""

    expected: Annotated[list[Head], Meta(max_length=20)] = msgspec.field(default_factory=list[Head])


class AuditHead(Answer, frozen=True, kw_only=True):
    """The last link of the audit log's hash chain."""

    seq: int
    hash: str


class AuditVerification(Answer, frozen=True, kw_only=True):
    """Whether every row fits the hash chain. `findings` has the first of the `wrong` rows in words; `unsealed` rows
    have no link yet."""

    ok: bool
    rows: int
    head: AuditHead
    unsealed: int
    wrong: int
    findings: list[str]


async def list_audit_events(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(AuditQuery)
    async with call.services.pool.connection() as conn:
        page = await read_page(query.limit, partial(audit_log.page, conn, query.event_filter(), query.before))
    return {"events": page.rows, "next_before": page.cursor("id")}


async def export_audit_log(call: Call[NoBody]) -> Response:
    """Streamed as it is read; the export itself is in the log before the first byte leaves."""
    query = call.query(AuditExport)
    wanted = query.event_filter()
    async with call.services.pool.connection() as conn:
        detail = {name: str(value) for name, value in call.request.query_params.items()}
        await audit.write(conn, audit.Event(actor=call.actor, action="audit.exported", detail=detail))
    return StreamingResponse(
        _export(call.services, wanted, query.format),
        media_type=audit_export.MEDIA_TYPES[query.format],
        headers={
            "Content-Disposition": f'attachment; filename="onsembl-audit.{query.format}"',
            "Cache-Control": "no-store",
        },
    )


async def _export(services: Services, wanted: EventFilter, format: audit_export.Format) -> AsyncGenerator[bytes]:
    yield audit_export.head(format)
    on_fault = partial(services.unreadable.record, "GET /v1/audit/export")
    async with services.pool.connection() as conn, aclosing(audit_log.all_rows(conn, wanted)) as rows:
        block = bytearray()
        async for row in rows:
            block += audit_export.line(row, format, on_fault)
            if len(block) >= 65_536:
                yield bytes(block)
                block.clear()
        yield bytes(block)


async def read_audit_chain(call: Call[NoBody]) -> AuditChain:
    async with call.services.pool.connection() as conn:
        return AuditChain(**await audit_chain.status(conn))


async def verify_audit_log(call: Call[AuditVerify]) -> dict[str, object]:
    """A log of a million rows takes about a minute. One request at a time: each uses a connection meanwhile."""
    if call.services.verifying.locked():
        raise Problem(409, "The audit log is being verified for another request.")
    async with call.services.verifying, call.services.pool.connection() as conn:
        return await verification(conn, frozenset(call.body.expected))


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/audit",
        handler=list_audit_events,
        summary="List audit events, newest first",
        answer=AuditPage,
        role=Role.ADMIN,
        query=AuditQuery,
    ),
    Endpoint(
        method="GET",
        path="/v1/audit/export",
        handler=export_audit_log,
        summary="Export the audit log as JSON lines or CSV, oldest first",
        answer=AuditPage,
        media_type="application/x-ndjson",
        role=Role.ADMIN,
        query=AuditExport,
    ),
    Endpoint(
        method="GET",
        path="/v1/audit/chain",
        handler=read_audit_chain,
        summary="Read the state of the audit log's hash chain",
        answer=AuditChain,
        role=Role.ADMIN,
    ),
    Endpoint(
        method="POST",
        path="/v1/audit/verify",
        handler=verify_audit_log,
        summary="Verify every row of the audit log against the hash chain",
        body=AuditVerify,
        answer=AuditVerification,
        role=Role.ADMIN,
        problems=(409,),
    ),
]
