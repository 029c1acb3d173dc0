"""Models of reports."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from onsembl.api.http.models import Answer, PageQuery, Query, Time
from onsembl.api.routes.commands_models import Words
from onsembl.fleet.report_export import Format
from onsembl.protocol.field_types import Name
from onsembl.protocol.reports import Report


class ReportSummary(Answer, frozen=True, kw_only=True):
    """A report in a list. `severities` has the number of findings of each severity. `version` counts the reports of its
    conversation and preset; a later one has `superseded` this one. A `draft` is of a turn that runs, or that was not
    completed; a report that is neither is complete. `problem` says why the answer is no report, though
    it was meant for one. A report that is not pinned is deleted with the recordings of its time."""

    id: UUID
    seq: int
    command_id: UUID
    agent_id: UUID
    conversation_id: UUID | None
    preset: str | None
    version: int
    draft: bool
    superseded: bool
    title: str
    severities: dict[str, int]
    problem: str | None
    pinned_at: Time | None
    pinned_by_name: str | None
    created_at: Time


class ReportAnswer(ReportSummary, frozen=True, kw_only=True):
    """A report. `report` is null when the answer is prose, or has a `problem`; `text` is the answer as it came, without
    its last `text_omitted` bytes."""

    report: Report | None
    text: str
    text_omitted: int


class Reports(Answer, frozen=True, kw_only=True):
    """A page of reports, newest first; `next_before` is where the next page starts, null on the last page."""

    reports: list[ReportSummary]
    next_before: int | None


class ReportQuery(PageQuery, frozen=True, kw_only=True):
    """A filter of reports. `q` occurs in the title or the text of the answer."""

    agent_id: UUID | None = None
    conversation_id: UUID | None = None
    command_id: UUID | None = None
    preset: Name | None = None
    q: Words | None = None
    pinned: bool | None = None
    superseded: bool | None = None


class ReportExportQuery(Query, frozen=True, kw_only=True):
    """The form of an export: Markdown, JSON, or a page without scripts."""

    format: Annotated[Format, Meta(description="`markdown`, `json` or `html`.")] = "markdown"
