"""`onsembl events`: what has happened, and what happens, in one order."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import click

from onsembl.cli.client.event_stream import follow_events
from onsembl.cli.client.options import server_option
from onsembl.cli.client.rest_client import PAGE_SIZE, OperatorClient
from onsembl.cli.json_output import json_option
from onsembl.cli.output import local_time, print_line, styled

FAMILIES = ("attention", "command", "agent", "limit", "report", "halt")


@click.command("events")
@click.option("--follow", is_flag=True, help="Print events as they happen, until Ctrl-C; by default from now on.")
@click.option("--after", metavar="CURSOR", help="Only events after this position; `latest`: only new ones.")
@click.option("--kind", help=f"Only this kind, or the first part of kinds: {', '.join(FAMILIES)}.")
@click.option("--agent", metavar="NAME", help="Only events of this agent.")
@click.option("--limit", type=click.IntRange(1), help="Exit after so many events.")
@json_option
@server_option
def events(
    follow: bool,
    after: str | None,
    kind: str | None,
    agent: str | None,
    limit: int | None,
    as_json: bool,
    server: str | None,
) -> None:
    """Print events, oldest first: requests of agents, ends of commands, status, usage limits, reports and halts.

    With --json each event is one line; its `position` is the cursor with which --after continues.
    """
    with OperatorClient(server) as client:
        query = {"kind": kind, "agent_id": client.agent_id(agent) if agent is not None else None}
        found = follow_events(client, after or "latest", query) if follow else _kept(client, {**query, "after": after})
        for number, event in enumerate(found, 1):
            print_event(event, as_json)
            if number == limit:
                return


def _kept(client: OperatorClient, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events that have happened."""
    parameters = {name: value for name, value in query.items() if value is not None}
    more = True
    while more:
        page = client.request("GET", f"/v1/events?{urlencode({**parameters, 'limit': PAGE_SIZE})}")
        yield from page["events"]
        parameters["after"], more = page["next_after"], page["more"]


def print_event(event: dict[str, Any], as_json: bool) -> None:
    """Print one event in one line, at once."""
    if as_json:
        print_line(json.dumps(event))
    else:
        agent = event["agent_name"] or event["agent_id"] or ""
        head = styled(f"{event['position']:>8}  {local_time(event['at'])}  ", dim=True)
        print_line(head, f"{agent:<20} {event['kind']:<19} {in_words(event['detail'])}")
    sys.stdout.flush()


def in_words(detail: Any) -> str:
    """The detail of an event, in a few words."""
    match detail:
        case {"kind": "attention.asked", "title": title, "request_kind": kind}:
            return f"{kind}: {title}"
        case {"kind": "attention.answered", "title": title, "decision": decision, "answered_by_name": name}:
            return f"{decision} by {name}: {title}"
        case {"kind": "attention.withdrawn", "title": title, "reason": reason}:
            return f"{title} ({reason})"
        case {"kind": "command.ended", "state": state, "text": text, "denied": denied}:
            return f"{state}, {denied} not allowed: {text}" if denied else f"{state}: {text}"
        case {"kind": "agent.status", "name": name, "reason": reason}:
            return f"{name}: {reason}" if reason else str(name)
        case {"kind": "limit.reached", "until": until}:
            return f"until {local_time(str(until))}"
        case {"kind": "report.written", "title": title, "version": version}:
            return f"{title} (version {version})"
        case {"kind": "halt.begun" | "halt.lifted", "by_name": name}:
            return f"by {name}"
        case _:
            return ""
