"""`onsembl recordings`, `export` and `search`: list, export and search the recordings of terminals."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, BinaryIO, TypeVar

import click
from click.core import ParameterSource

from onsembl.cli.client.options import count_option, server_option, since_option, until_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import local_time, print_line, print_progress, styled

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("cast3", "cast2", "text")
TEXT_TIMES = "text_times"
MEBIBYTE = 1024 * 1024


@click.group()
def recordings() -> None:
    """List recordings and their disk usage. Needs `onsembl login`."""


@recordings.command("list")
@click.argument("agent")
@count_option
@json_option
@server_option
def list_recordings(agent: str, limit: int, as_json: bool, server: str | None) -> None:
    """List the recorded streams of AGENT, newest first. `onsembl export stream` takes their ids."""
    with OperatorClient(server) as client:
        streams = client.collect(f"/v1/agents/{client.agent_id(agent)}/streams", "streams", {}, limit)
    if as_json:
        print_json(streams)
        return
    for stream in streams:
        began = local_time(stream["began_at"] or stream["created_at"])
        size, stored = _mebibytes(stream["end"] - stream["start"]), _mebibytes(stream["stored"])
        print_line(f"{stream['id']}  {began}  {size}, {stored} stored, {stream['commands']} commands")


@recordings.command()
@json_option
@server_option
def storage(as_json: bool, server: str | None) -> None:
    """Show the disk usage of recordings, by agent and in total."""
    with OperatorClient(server) as client:
        used = client.request("GET", "/v1/storage")
        names = client.agent_names()
    if as_json:
        print_json(used)
        return
    for agent in sorted(used["agents"], key=lambda agent: agent["stored"], reverse=True):
        print_line(f"{names.get(agent['agent_id'], agent['agent_id']):<24} {_mebibytes(agent['stored'])}")
    print_line(f"On disk: {_mebibytes(used['archive'])} of recordings, {_mebibytes(used['search'])} of search index.")


def _mebibytes(count: int) -> str:
    return f"{count / MEBIBYTE:.1f} MiB"


# Exports


def _file_options(command: F) -> F:
    for option in (
        server_option,
        click.option(
            "-o", "--output", type=click.File("wb", lazy=True), default="-", help="The output file; default: stdout."
        ),
        click.option(
            "--format",
            "format",
            type=click.Choice(FORMATS),
            default="cast2",
            show_default=True,
            help="asciicast v2 (asciinema 2 and 3), asciicast v3 (asciinema 3), or plain text.",
        ),
        click.option("--times", is_flag=True, help="Plain text with the time of each line, in UTC."),
    ):
        command = option(command)
    return command


@click.group()
def export() -> None:
    """Export recordings, to play with `asciinema play` or as text. Needs `onsembl login`."""


@export.command("command")
@click.argument("command_id", type=click.UUID)
@_file_options
def export_command(command_id: object, times: bool, format: str, output: BinaryIO, server: str | None) -> None:
    """Export the output of one command."""
    _export(server, lambda _: f"/v1/commands/{command_id}/recording", _format(format, times), output)


@export.command("agent")
@click.argument("name")
@since_option
@until_option
@_file_options
def export_agent(
    name: str,
    since: datetime | None,
    until: datetime | None,
    times: bool,
    format: str,
    output: BinaryIO,
    server: str | None,
) -> None:
    """Export the output of an agent over a period, one stream after the other."""
    query = {**_format(format, times), **_period(since, until)}
    _export(server, lambda client: f"/v1/agents/{client.agent_id(name)}/recording", query, output)


@export.command("stream")
@click.argument("stream_id", type=click.UUID)
@click.option("--start", type=click.IntRange(0), help="Offset of the first byte.")
@click.option("--end", type=click.IntRange(0), help="Offset after the last byte.")
@since_option
@until_option
@_file_options
def export_stream(
    stream_id: object,
    start: int | None,
    end: int | None,
    since: datetime | None,
    until: datetime | None,
    times: bool,
    format: str,
    output: BinaryIO,
    server: str | None,
) -> None:
    """Export one stream, or a part of it by offset or time."""
    query = {**_format(format, times), **_period(since, until)}
    query |= {name: str(value) for name, value in (("start", start), ("end", end)) if value is not None}
    _export(server, lambda _: f"/v1/streams/{stream_id}/recording", query, output)


def _format(format: str, times: bool) -> dict[str, str]:
    """`--times` makes an export plain text. Raises click.UsageError where another format was asked for."""
    if not times:
        return {"format": format}
    source = click.get_current_context().get_parameter_source("format")
    if format != "text" and source is not ParameterSource.DEFAULT:
        raise click.UsageError("--times is for plain text; asciicasts have times in any case.")
    return {"format": TEXT_TIMES}


def _period(since: datetime | None, until: datetime | None) -> dict[str, str]:
    times = (("since", since), ("until", until))
    return {name: time.isoformat() for name, time in times if time is not None}


def _export(server: str | None, path: Callable[[OperatorClient], str], query: dict[str, str], output: BinaryIO) -> None:
    written = 0

    def write(chunk: bytes) -> None:
        nonlocal written
        output.write(chunk)
        written += len(chunk)
        print_progress(f"{_mebibytes(written)} …")

    with OperatorClient(server) as client:
        client.download(path(client), query, write)
    print_progress("")
    output.flush()
    print_line(f"{written} bytes.", err=True)


# Search


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option(
    "--in",
    "kind",
    type=click.Choice(["all", "output", "steps", "commands"]),
    default="all",
    show_default=True,
    help="What is searched: output and steps (all), one of them, or the texts of commands.",
)
@click.option("--agent", "agent_name", help="Only this agent.")
@since_option
@until_option
@count_option
@json_option
@server_option
def search(
    words: tuple[str, ...],
    kind: str,
    agent_name: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    as_json: bool,
    server: str | None,
) -> None:
    """Search lines of output and steps for those that contain all WORDS, newest first. The exit code is 1 when nothing
    is found.

    Parts of words match, and case is ignored; '"quoted text"' matches exactly. Each result has its command, and the
    number of its step, or its stream and offset.
    """
    query = {"q": " ".join(words), "kind": kind, **_period(since, until)}
    with OperatorClient(server) as client:
        if agent_name is not None:
            query["agent_id"] = client.agent_id(agent_name)
        hits = client.collect("/v1/search", "hits", query, limit, cursor="cursor")
        names = client.agent_names()
    if as_json:
        print_json(hits)
    else:
        for hit in hits:
            _print_hit(hit, names)
    if not hits:
        sys.exit(1)


def _print_hit(hit: dict[str, Any], names: dict[str, str]) -> None:
    place = hit["command_id"] or f"{hit['stream_id']}:{hit['offset']}"
    if hit["step"] is not None:
        place += f"  step {hit['step']}  {hit['step_name']}"
    agent = names.get(hit["agent_id"], hit["agent_id"])
    print_line(styled(f"{agent}  {local_time(hit['at'])}  {place}", dim=True))
    texts = [(part["text"].replace("\n", " "), part["match"]) for part in hit["excerpt"]]
    print_line("  ", *(styled(text, fg="yellow", bold=True) if match else text for text, match in texts))
