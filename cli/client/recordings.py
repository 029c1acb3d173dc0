"""`onsembl recordings`: which there are, and what they take on disk."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import click

from onsembl.cli.client.rest_client import OperatorClient, server_option

MEBIBYTE = 1024 * 1024
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def recordings() -> None:
    """See which recordings there are, and what they take on disk. Needs `onsembl login`."""


@recordings.command("list")
@click.argument("agent")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@_json_option
@server_option
def list_recordings(agent: str, limit: int, as_json: bool, server: str | None) -> None:
    """The terminals of an AGENT, newest first; `onsembl export stream` takes their ids."""
    found: list[dict[str, Any]] = []
    query: dict[str, str] = {}
    with OperatorClient(server) as client:
        agent_id = client.agent_id(agent)
        while len(found) < limit:
            asked = urlencode({**query, "limit": min(limit - len(found), 200)})
            page = client.ask("GET", f"/v1/agents/{agent_id}/streams?{asked}")
            found += page["streams"]
            if page["next_before"] is None:
                break
            query["before"] = page["next_before"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for stream in found:
        began = datetime.fromisoformat(stream["began_at"] or stream["created_at"]).astimezone()
        size, stored = _mebibytes(stream["end"] - stream["start"]), _mebibytes(stream["stored"])
        click.echo(f"{stream['id']}  {began:%Y-%m-%d %H:%M:%S}  {size}, {stored} stored, {stream['commands']} commands")


@recordings.command()
@_json_option
@server_option
def usage(as_json: bool, server: str | None) -> None:
    """What is stored of each agent, and what all of it takes on disk."""
    with OperatorClient(server) as client:
        used = client.ask("GET", "/v1/usage")
        names = {agent["id"]: agent["name"] for agent in client.ask("GET", "/v1/agents")["agents"]}
    if as_json:
        click.echo(json.dumps(used, indent=2))
        return
    for one in sorted(used["agents"], key=lambda one: one["stored"], reverse=True):
        click.echo(f"{names.get(one['agent_id'], one['agent_id']):<24} {_mebibytes(one['stored'])}")
    click.echo(f"On disk, with indexes: {_mebibytes(used['archive'])}, and {_mebibytes(used['search'])} to search in.")


def _mebibytes(count: int) -> str:
    return f"{count / MEBIBYTE:.1f} MiB"
