"""`onsembl presets`: named templates of commands; and how other commands fill one in."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from onsembl.cli.client.rest_client import OperatorClient, server_option
from onsembl.cli.errors import StartError
from onsembl.protocol.presets import Value, ValuesError, Variable, read_value

CONTENT = ("description", "template", "variables", "priority", "kind", "limits")

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_name_argument = click.argument("name")
values_option = click.option(
    "--set",
    "values",
    multiple=True,
    metavar="NAME=VALUE",
    help="A value for the preset; may be repeated. NAME=@FILE reads it from a file.",
)


@click.group("presets")
def presets_group() -> None:
    """Named templates of commands, with typed variables. Needs `onsembl login`."""


@presets_group.command("list")
@_json_option
@server_option
def list_presets(as_json: bool, server: str | None) -> None:
    """Every preset: those that ship, then the others by name."""
    with OperatorClient(server) as client:
        found = client.ask("GET", "/v1/presets")["presets"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for preset in found:
        whose = "ships" if preset["shipped"] else preset["updated_by_name"]
        click.echo(f"{preset['name']:<24} {whose:<24} {preset['description']}")


@presets_group.command()
@_name_argument
@_json_option
@server_option
def show(name: str, as_json: bool, server: str | None) -> None:
    """One preset: what it takes and what it becomes. The JSON can be saved again."""
    with OperatorClient(server) as client:
        preset = client.ask("GET", _path(name))
    if as_json:
        click.echo(json.dumps(preset, indent=2))
        return
    click.echo(f"{preset['name']}: {preset['description']}")
    for field in ("kind", "priority", "limits"):
        if preset[field]:
            click.echo(f"{field}: {preset[field]}")
    for variable in preset["variables"]:
        about = " | ".join(variable["choices"]) or variable["type"]
        given = " (required)" if variable["required"] else ""
        default = "" if variable["default"] is None else f" [{variable['default']}]"
        click.echo(f"  {variable['name']:<16} {about}{default}{given}  {variable['help']}".rstrip())
    click.echo()
    click.echo(preset["template"].rstrip())


@presets_group.command()
@_name_argument
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@_json_option
@server_option
def save(name: str, file: str, as_json: bool, server: str | None) -> None:
    """Make or change the preset NAME from a FILE in JSON or TOML (`.toml`); - reads JSON from standard input.

    \b
    template = "Update {{package}}{{#version}} to {{version}}{{/version}}."
    [[variables]]
    name = "package"
    required = true
    [[variables]]
    name = "version"
    """
    body = _content(_read(file))
    with OperatorClient(server) as client:
        preset = client.ask("PUT", _path(name), body)
    click.echo(json.dumps(preset, indent=2) if as_json else f"{preset['name']} is saved.")


@presets_group.command()
@_name_argument
@click.argument("new_name")
@_json_option
@server_option
def copy(name: str, new_name: str, as_json: bool, server: str | None) -> None:
    """Make NEW_NAME from the preset NAME: the way to change one that ships."""
    with OperatorClient(server) as client:
        content = _content(client.ask("GET", _path(name)))
        preset = client.ask("PUT", _path(new_name), {**content, "revision": 0})
    click.echo(json.dumps(preset, indent=2) if as_json else f"{preset['name']} is saved.")


@presets_group.command()
@_name_argument
@click.argument("new_name")
@_json_option
@server_option
def rename(name: str, new_name: str, as_json: bool, server: str | None) -> None:
    """Call the preset NAME by NEW_NAME, also in the schedules that name it."""
    with OperatorClient(server) as client:
        preset = client.ask("GET", _path(name))
        body = {**_content(preset), "name": new_name, "revision": preset["revision"]}
        preset = client.ask("PUT", _path(name), body)
    click.echo(json.dumps(preset, indent=2) if as_json else f"{name} is {preset['name']} now.")


@presets_group.command()
@_name_argument
@_json_option
@server_option
def delete(name: str, as_json: bool, server: str | None) -> None:
    """Remove the preset NAME. Those that ship stay."""
    with OperatorClient(server) as client:
        preset = client.ask("DELETE", _path(name))
    click.echo(json.dumps(preset, indent=2) if as_json else f"{preset['name']} is deleted.")


def filled_in(client: OperatorClient, name: str, given: Sequence[str]) -> dict[str, Any]:
    """The part of a request that names a preset and its values, given as NAME=VALUE. Raises click.UsageError."""
    preset = client.ask("GET", _path(name))
    variables = {row["name"]: msgspec.convert(row, Variable) for row in preset["variables"]}
    values: dict[str, Value] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key not in variables:
            raise click.UsageError(f"--set {text}: {name} takes {', '.join(variables) or 'no values'}, as NAME=VALUE.")
        try:
            values[key] = read_value(variables[key], _value(value))
        except ValuesError as error:
            raise click.UsageError(f"--set {text}: {error}.") from error
    return {"preset": preset["name"], "values": values}


def _value(text: str) -> str:
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"{text[1:]} cannot be read: {error}") from error


def _read(file: str) -> Mapping[str, Any]:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        found = tomllib.loads(raw.decode()) if file.endswith(".toml") else json.loads(raw)
    except (OSError, ValueError) as error:
        raise StartError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise StartError(f"{file} does not hold a preset.")
    return found  # pyright: ignore[reportUnknownVariableType]


def _content(preset: Mapping[str, Any]) -> dict[str, Any]:
    """What of a preset is saved."""
    return {name: preset[name] for name in CONTENT if preset.get(name) is not None}


def _path(name: str) -> str:
    return f"/v1/presets/{quote(name, safe='')}"
