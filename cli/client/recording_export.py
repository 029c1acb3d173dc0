"""`onsembl export` and `onsembl search`: what terminals showed, as files and as finds."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlencode

import click

from onsembl.cli.client.rest_client import OperatorClient, server_option
from onsembl.cli.client.times import moment

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("cast3", "cast2", "text")
MEBIBYTE = 1024 * 1024
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_since_option = click.option("--since", type=moment, help="Not before: 90m, 36h, 7d, 2026-01-31, 2026-01-31T12:00:00Z.")
_until_option = click.option("--until", type=moment, help="Before.")


def _file_options(command: F) -> F:
    for option in (
        server_option,
        click.option(
            "-o", "--output", type=click.File("wb", lazy=True), default="-", help="Where to; standard output."
        ),
        click.option(
            "--format",
            "format",
            type=click.Choice(FORMATS),
            default="cast2",
            show_default=True,
            help="asciicast v3 (asciinema 3) or v2 (asciinema 2 and 3), or the lines as plain text.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def export() -> None:
    """Take a copy of what terminals showed. `asciinema play` plays it. Needs `onsembl login`."""


@export.command("command")
@click.argument("command_id", type=click.UUID)
@_file_options
def export_command(command_id: object, format: str, output: BinaryIO, server: str | None) -> None:
    """What one command put out."""
    _export(server, lambda _: f"/v1/commands/{command_id}/recording", {"format": format}, output)


@export.command("agent")
@click.argument("name")
@_since_option
@_until_option
@_file_options
def export_agent(
    name: str, since: datetime | None, until: datetime | None, format: str, output: BinaryIO, server: str | None
) -> None:
    """What an agent put out over a time, one terminal after the other."""
    query = {"format": format, **_span(since, until)}
    _export(server, lambda client: f"/v1/agents/{client.agent_id(name)}/recording", query, output)


@export.command("stream")
@click.argument("stream_id", type=click.UUID)
@click.option("--start", type=click.IntRange(0), help="Offset of the first byte.")
@click.option("--end", type=click.IntRange(0), help="Offset after the last byte.")
@_since_option
@_until_option
@_file_options
def export_stream(
    stream_id: object,
    start: int | None,
    end: int | None,
    since: datetime | None,
    until: datetime | None,
    format: str,
    output: BinaryIO,
    server: str | None,
) -> None:
    """One terminal's recording, or a part of it by offset or time."""
    query = {"format": format, **_span(since, until)}
    query |= {name: str(value) for name, value in (("start", start), ("end", end)) if value is not None}
    _export(server, lambda _: f"/v1/streams/{stream_id}/recording", query, output)


def _span(since: datetime | None, until: datetime | None) -> dict[str, str]:
    given = (("since", since), ("until", until))
    return {name: value.isoformat() for name, value in given if value is not None}


def _export(server: str | None, path: Callable[[OperatorClient], str], query: dict[str, str], output: BinaryIO) -> None:
    written = 0
    shows = sys.stderr.isatty()

    def take(chunk: bytes) -> None:
        nonlocal written
        output.write(chunk)
        written += len(chunk)
        if shows:
            click.echo(f"\r{written / MEBIBYTE:.1f} MiB …", nl=False, err=True)

    with OperatorClient(server) as client:
        client.fetch(path(client), query, take)
    if shows:
        click.echo("\r\033[K", nl=False, err=True)
    click.echo(f"{written} bytes.", err=True)


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--commands", "in_commands", is_flag=True, help="Search commands' texts instead of output.")
@click.option("--agent", "agent_name", help="Of this agent only.")
@_since_option
@_until_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many finds.")
@_json_option
@server_option
def search(
    words: tuple[str, ...],
    in_commands: bool,
    agent_name: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    as_json: bool,
    server: str | None,
) -> None:
    """Search what terminals showed: lines that have all WORDS, newest first. The exit code is 1 when there is none.

    Any part of a word counts, in any case; '"an exact part"' in double quotes is taken as it is. Each find says where
    it is: stream and offset.
    """
    query = {"q": " ".join(words), "kind": "commands" if in_commands else "output", **_span(since, until)}
    hits: list[dict[str, Any]] = []
    with OperatorClient(server) as client:
        if agent_name is not None:
            query["agent_id"] = client.agent_id(agent_name)
        while len(hits) < limit:
            page = client.ask("GET", f"/v1/search?{urlencode({**query, 'limit': min(limit - len(hits), 200)})}")
            hits += page["hits"]
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
        names = {agent["id"]: agent["name"] for agent in client.ask("GET", "/v1/agents")["agents"]}
    if as_json:
        click.echo(json.dumps(hits, indent=2))
    else:
        for hit in hits:
            click.echo(_shown(hit, names))
    if not hits:
        sys.exit(1)


def _shown(hit: dict[str, Any], names: dict[str, str]) -> str:
    text = "".join(
        click.style(part["text"], fg="yellow", bold=True) if part["match"] else part["text"] for part in hit["excerpt"]
    ).replace("\n", " ")
    place = hit["command_id"] or f"{hit['stream_id']}:{hit['offset']}"
    at = datetime.fromisoformat(hit["at"]).astimezone()
    where = click.style(f"{names.get(hit['agent_id'], hit['agent_id'])}  {at:%Y-%m-%d %H:%M:%S}  {place}", dim=True)
    return f"{where}\n  {text}"
