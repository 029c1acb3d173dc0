"""`onsembl reports`: list, show, pin and export what agents found."""

from __future__ import annotations

from typing import Any, BinaryIO, get_args
from uuid import UUID

import click

from onsembl.cli.client.options import count_option, server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line, print_lines, styled
from onsembl.protocol.reports import Severity

_report_argument = click.argument("report_id", type=click.UUID)
_COLOURS = {"critical": "red", "high": "red", "medium": "yellow"}


@click.group("reports")
def reports_group() -> None:
    """List, show, pin and export reports of agents. Needs `onsembl login`."""


@reports_group.command("list")
@click.argument("words", nargs=-1)
@click.option("--agent", metavar="NAME", help="Only reports of this agent.")
@click.option("--preset", metavar="NAME", help="Only reports that this preset asked for.")
@click.option("--all", "all_versions", is_flag=True, help="Earlier versions, too.")
@click.option("--pinned", is_flag=True, help="Only pinned reports.")
@count_option
@json_option
@server_option
def list_reports(
    words: tuple[str, ...],
    agent: str | None,
    preset: str | None,
    all_versions: bool,
    pinned: bool,
    limit: int,
    as_json: bool,
    server: str | None,
) -> None:
    """List reports whose text contains WORDS, newest first."""
    with OperatorClient(server) as client:
        names = client.agent_names()
        query = {
            "agent_id": client.agent_id(agent) if agent is not None else None,
            "preset": preset,
            "q": " ".join(words) or None,
            "superseded": None if all_versions else "false",
            "pinned": "true" if pinned else None,
        }
        rows = client.collect("/v1/reports", "reports", query, limit)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        state = " superseded" if row["superseded"] else " draft" if row["draft"] else ""
        version = f"v{row['version']}{state}" + " pinned" * bool(row["pinned_at"])
        print_line(
            styled(f"{row['id']}  {row['created_at'][:19]}  ", dim=True),
            f"{names.get(row['agent_id'], ''):<20} {_counts(row):<24} {version:<4} {row['title'][:80]}",
        )


def _counts(row: dict[str, Any]) -> str:
    if row["problem"] is not None:
        return "not a valid report"
    counts = row["severities"]
    return ", ".join(f"{counts[name]} {name}" for name in get_args(Severity) if name in counts) or "no findings"


@reports_group.command()
@_report_argument
@json_option
@server_option
def show(report_id: UUID, as_json: bool, server: str | None) -> None:
    """Show a report."""
    with OperatorClient(server) as client:
        row = client.request("GET", f"/v1/reports/{report_id}")
    if as_json:
        print_json(row)
        return
    if row["draft"]:
        print_line(styled("This report is a draft: its turn runs, or was not completed.", fg="yellow"))
    report = row["report"]
    if report is None:
        if row["problem"] is not None:
            print_line(styled(f"The answer does not fit the form of a report: {row['problem']}", fg="yellow"))
        print_lines(row["text"], indent="  ")
        return
    print_line(styled(report["title"], bold=True))
    print_lines(report["summary"], indent="  ")
    for finding in report["findings"]:
        print_line("")
        severity = styled(finding["severity"], fg=_COLOURS.get(finding["severity"]), bold=True)
        print_line(severity, "  ", styled(finding["title"], bold=True))
        if finding["description"]:
            print_lines(finding["description"], indent="  ")
        for evidence in finding["evidence"]:
            place = f"{evidence['file'] or ''}{'' if evidence['line'] is None else ':'}{evidence['line'] or ''}"
            print_line("")
            print_line(styled("  ".join(text for text in (place, evidence["note"]) if text), dim=True))
            if evidence["excerpt"]:
                print_lines(evidence["excerpt"], indent="    ")
    if report["recommendations"]:
        print_line("")
        print_line(styled("Recommendations", bold=True))
    for recommendation in report["recommendations"]:
        print_line(f"- {recommendation['action']} ({recommendation['priority']})")
        if recommendation["rationale"]:
            print_lines(recommendation["rationale"], indent="  ")


@reports_group.command()
@_report_argument
@click.option(
    "--format",
    type=click.Choice(["markdown", "json", "html"]),
    default="markdown",
    show_default=True,
    help="Markdown, JSON, or a page without scripts.",
)
@click.option("-o", "--output", type=click.File("wb", lazy=True), default="-", help="The output file; default: stdout.")
@server_option
def export(report_id: UUID, format: str, output: BinaryIO, server: str | None) -> None:
    """Export a report. The audit log records who exported it."""
    with OperatorClient(server) as client:
        client.download(f"/v1/reports/{report_id}/export", {"format": format}, output.write)
        output.flush()


@reports_group.command()
@_report_argument
@json_option
@server_option
def pin(report_id: UUID, as_json: bool, server: str | None) -> None:
    """Keep a report until it is unpinned."""
    _pin("PUT", report_id, as_json, server)


@reports_group.command()
@_report_argument
@json_option
@server_option
def unpin(report_id: UUID, as_json: bool, server: str | None) -> None:
    """Delete a report with the recordings of its time."""
    _pin("DELETE", report_id, as_json, server)


def _pin(method: str, report_id: UUID, as_json: bool, server: str | None) -> None:
    with OperatorClient(server) as client:
        row = client.request(method, f"/v1/reports/{report_id}/pin")
    if as_json:
        print_json(row)
    else:
        print_line(f"{'pinned' if row['pinned_at'] else 'unpinned'}: {row['title']}")
