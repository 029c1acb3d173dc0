"""Reports: list, read, pin and export what agents found."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial

from psycopg.rows import DictRow
from starlette.responses import Response

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import NoBody
from onsembl.api.http.paging import read_page
from onsembl.api.http.problems import found
from onsembl.api.routes.reports_models import ReportAnswer, ReportExportQuery, ReportQuery, Reports, ReportSummary
from onsembl.fleet.report_export import MEDIA_TYPES, SUFFIXES, Export, exported
from onsembl.protocol.ids import AgentId, CommandId
from onsembl.protocol.states import Role
from onsembl.sql import agents, audit, reports
from onsembl.sql.reports import ReportFilter


async def list_reports(call: Call[NoBody]) -> dict[str, object]:
    query = call.query(ReportQuery)
    wanted = ReportFilter(
        agent_id=AgentId(query.agent_id) if query.agent_id is not None else None,
        conversation_id=query.conversation_id,
        command_id=CommandId(query.command_id) if query.command_id is not None else None,
        preset=query.preset,
        words=query.q,
        pinned=query.pinned,
        superseded=query.superseded,
    )
    async with call.services.pool.connection() as conn:
        page = await read_page(query.limit, partial(reports.page, conn, wanted, query.before))
    return {"reports": page.rows, "next_before": page.cursor("seq")}


async def read_report(call: Call[NoBody]) -> DictRow:
    async with call.services.pool.connection() as conn:
        return found(await reports.get(conn, call.id("report_id")), "report")


async def export_report(call: Call[NoBody]) -> Response:
    """The audit log records each export."""
    format = call.query(ReportExportQuery).format
    async with call.services.pool.connection() as conn:
        row = found(await reports.get(conn, call.id("report_id")), "report")
        agent = await agents.get(conn, AgentId(row["agent_id"]))
        await audit.write(conn, _event(call, "report.exported", row, {"format": format, "version": row["version"]}))
    export = Export(
        by=call.signed_in.email, at=datetime.now(UTC), agent=agent["name"] if agent is not None else "a deleted agent"
    )
    on_fault = partial(call.services.unreadable.record, "GET /v1/reports/{report_id}/export")
    # In a thread: a long answer as Markdown takes about a second, in which terminals must not wait.
    content = await asyncio.to_thread(exported, row, export, format, on_fault)
    return Response(
        content,
        media_type=MEDIA_TYPES[format],
        headers={"Content-Disposition": f'attachment; filename="report-{row["id"]}.{SUFFIXES[format]}"'},
    )


async def pin_report(call: Call[NoBody]) -> DictRow:
    async with call.services.pool.connection() as conn:
        row = found(await reports.pin(conn, call.id("report_id"), call.signed_in.email), "report")
        await audit.write(conn, _event(call, "report.pinned", row, {}))
    return row


async def unpin_report(call: Call[NoBody]) -> DictRow:
    async with call.services.pool.connection() as conn:
        row = found(await reports.pin(conn, call.id("report_id"), None), "report")
        await audit.write(conn, _event(call, "report.unpinned", row, {}))
    return row


def _event(call: Call[NoBody], action: str, row: DictRow, detail: dict[str, object]) -> audit.Event:
    return audit.Event(actor=call.actor, action=action, target_kind="report", target_id=str(row["id"]), detail=detail)


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/reports",
        handler=list_reports,
        summary="List the reports of agents, newest first",
        answer=Reports,
        query=ReportQuery,
    ),
    Endpoint(
        method="GET",
        path="/v1/reports/{report_id:uuid}",
        handler=read_report,
        summary="Read a report with its findings and recommendations",
        answer=ReportAnswer,
        problems=(404,),
    ),
    Endpoint(
        method="GET",
        path="/v1/reports/{report_id:uuid}/export",
        handler=export_report,
        summary="Export a report as Markdown, JSON, or a page without scripts",
        answer=ReportAnswer,
        media_type="text/markdown",
        query=ReportExportQuery,
        problems=(404,),
    ),
    Endpoint(
        method="PUT",
        path="/v1/reports/{report_id:uuid}/pin",
        handler=pin_report,
        summary="Keep a report until it is unpinned",
        answer=ReportSummary,
        role=Role.OPERATOR,
        problems=(404,),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/reports/{report_id:uuid}/pin",
        handler=unpin_report,
        summary="Unpin a report: it is deleted with the recordings of its time",
        answer=ReportSummary,
        role=Role.OPERATOR,
        problems=(404,),
    ),
]
