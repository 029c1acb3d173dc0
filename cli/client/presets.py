"""`onsembl presets`: manage templates of commands; and `preset_fields`, with which `send` and schedules use one."""

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

from onsembl.cli.client.options import server_option
from onsembl.cli.client.rest_client import OperatorClient
from onsembl.cli.errors import CliError
from onsembl.cli.json_output import json_option, print_json
from onsembl.cli.output import print_line, print_lines
from onsembl.protocol.presets import Value, ValuesError, Variable, read_value

CONTENT = ("description", "template", "variables", "priority", "kinds", "kind", "limits", "rules", "report")

_name_argument = click.argument("name")
values_option = click.option(
    "--set",
    "values",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a variable of the preset (repeat for several). NAME=@FILE reads the value from a file.",
)


@click.group("presets")
def presets_group() -> None:
    """Manage presets: named templates of commands with variables. Needs `onsembl login`."""


@presets_group.command("list")
@json_option
@server_option
def list_presets(as_json: bool, server: str | None) -> None:
    """List built-in presets, then the others by name."""
    with OperatorClient(server) as client:
        presets = client.request("GET", "/v1/presets")["presets"]
    if as_json:
        print_json(presets)
        return
    for preset in presets:
        author = "built-in" if preset["shipped"] else preset["updated_by_name"]
        print_line(f"{preset['name']:<24} {author:<24} {preset['description']}")


@presets_group.command()
@_name_argument
@json_option
@server_option
def show(name: str, as_json: bool, server: str | None) -> None:
    """Show a preset: its variables and its template. `onsembl presets save` accepts the JSON."""
    with OperatorClient(server) as client:
        preset = client.request("GET", _path(name))
    if as_json:
        print_json(preset)
        return
    print_line(f"{preset['name']}: {preset['description']}")
    if preset["kinds"]:
        print_line(f"kinds: {', '.join(preset['kinds'])}")
    for field in ("priority", "limits"):
        if preset[field]:
            print_line(f"{field}: {preset[field]}")
    for variable in preset["variables"]:
        about = " | ".join(variable["choices"]) or variable["type"]
        given = " (required)" if variable["required"] else ""
        default = "" if variable["default"] is None else f" [{variable['default']}]"
        print_line(f"  {variable['name']:<16} {about}{default}{given}  {variable['help']}".rstrip())
    print_line()
    print_lines(preset["template"].rstrip(), "  | ")


@presets_group.command()
@_name_argument
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@json_option
@server_option
def save(name: str, file: str, as_json: bool, server: str | None) -> None:
    """Create or replace the preset NAME from a FILE in JSON or TOML (`.toml`); - reads JSON from standard input.

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
        preset = client.request("PUT", _path(name), body)
    _print(preset, f"Preset {preset['name']} is saved.", as_json)


@presets_group.command()
@_name_argument
@click.argument("new_name")
@json_option
@server_option
def copy(name: str, new_name: str, as_json: bool, server: str | None) -> None:
    """Copy the preset NAME to NEW_NAME, for example to change a built-in preset."""
    with OperatorClient(server) as client:
        content = _content(client.request("GET", _path(name)))
        preset = client.request("PUT", _path(new_name), {**content, "revision": 0})
    _print(preset, f"Preset {preset['name']} is saved.", as_json)


@presets_group.command()
@_name_argument
@click.argument("new_name")
@json_option
@server_option
def rename(name: str, new_name: str, as_json: bool, server: str | None) -> None:
    """Rename the preset NAME to NEW_NAME, also in schedules that use it."""
    with OperatorClient(server) as client:
        preset = client.request("GET", _path(name))
        body = {**_content(preset), "name": new_name, "revision": preset["revision"]}
        preset = client.request("PUT", _path(name), body)
    _print(preset, f"Preset {name} is now {preset['name']}.", as_json)


@presets_group.command()
@_name_argument
@json_option
@server_option
def delete(name: str, as_json: bool, server: str | None) -> None:
    """Delete the preset NAME. Built-in presets cannot be deleted."""
    with OperatorClient(server) as client:
        preset = client.request("DELETE", _path(name))
    _print(preset, f"Preset {preset['name']} is deleted.", as_json)


def preset_fields(client: OperatorClient, name: str, given: Sequence[str]) -> dict[str, Any]:
    """The fields `preset` and `values` of a request, from values in the form NAME=VALUE. Raises click.UsageError."""
    preset = client.request("GET", _path(name))
    variables = {row["name"]: msgspec.convert(row, Variable) for row in preset["variables"]}
    values: dict[str, Value] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key not in variables:
            raise click.UsageError(
                f"--set {text}: {name} takes {', '.join(variables) or 'no values'}, in the form NAME=VALUE."
            )
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
        raise CliError(f"{text[1:]} cannot be read: {error}") from error


def _read(file: str) -> Mapping[str, Any]:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        found = tomllib.loads(raw.decode()) if file.endswith(".toml") else json.loads(raw)
    except (OSError, ValueError) as error:
        raise CliError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise CliError(f"{file} does not contain a preset.")
    return found  # pyright: ignore[reportUnknownVariableType]


def _content(preset: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a preset that are saved."""
    content = {name: preset[name] for name in CONTENT if preset.get(name) is not None}
    if content.get("kinds"):
        content.pop("kind", None)  # the form of earlier releases
    return content


def _print(preset: Mapping[str, Any], message: str, as_json: bool) -> None:
    if as_json:
        print_json(preset)
    else:
        print_line(message)


def _path(name: str) -> str:
    return f"/v1/presets/{quote(name, safe='')}"
