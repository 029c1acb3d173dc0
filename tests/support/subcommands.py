"""Every subcommand of `onsembl` with arguments that it accepts, and a server that answers all that they ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import click
import httpx

from onsembl.api.http.openapi import document
from onsembl.cli.main import main
from onsembl.protocol.states import CommandState

ID = "00000000-0000-4000-8000-000000000001"
TIME = "2026-01-31T12:00:00+00:00"
ALSO = {
    "agents delete": ["--yes"],
    "attention answer": ["--allow"],
    "attention watch": ["--count", "1"],
    "audit export": ["--format", "csv"],
    "commands edit": ["--text", "true"],
    "commands move": ["--first"],
    "commands note": ["--text", "note"],
    "events": ["--limit", "1"],
    "login": ["--email", "ada@example.org"],
    "schedules add": ["--cron", "0 6 * * *", "--text", "true", "--all"],
    "send": ["--agent", ID, "true"],
    "stop": ["--all"],
    "supabase serve": ["--port", "0"],
    "tool-policies create": ["--deny"],
    "up": ["--port", "0", "--database-wait", "0"],
    "worker": ["--database-wait", "0"],
}
"""The options without which a subcommand would only explain itself."""
VALUES = {
    "agent": ID,
    "allowed": "shell",
    "name": ID,
    "email": "ada@example.org",
    "password": "a password",
    "cron": "0 6 * * *",
}


def every_command() -> Iterator[tuple[str, list[str]]]:
    """The path of each subcommand that acts, and arguments for it."""
    for path, command in _leaves(main, click.Context(main, info_name="onsembl")):
        arguments = path.split()
        for parameter in command.params:
            if isinstance(parameter, click.Argument) and parameter.nargs == 1:
                arguments.append(_value(parameter))
            elif isinstance(parameter, click.Argument) and parameter.required:
                arguments.append("word")
            elif parameter.required:
                arguments += [parameter.opts[0], _value(parameter)]
        yield path, arguments + ALSO.get(path, [])


def _leaves(group: click.Group, context: click.Context, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _leaves(command, click.Context(command, parent=context), f"{prefix}{name} ")
        else:
            yield prefix + name, command


def _value(parameter: click.Parameter) -> str:
    match parameter.type:
        case click.Choice(choices=choices):
            return str(choices[0])
        case click.types.IntParamType() | click.types.FloatParamType():
            return "1"
        case click.types.UUIDParameterType():
            return ID
        case click.Path():
            return "-"
        case _ if parameter.name == "server":
            return "https://server.test"
        case _:
            return VALUES.get(parameter.name or "", "word")


class AnyServer:
    """Answers every request with the shape that the OpenAPI document promises; each free text in it is `text`."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/config.json":
            return httpx.Response(200, json={"supabase_url": "", "supabase_key": "key"})
        if path == "/auth/v1/token":
            return httpx.Response(200, json={"access_token": "a", "refresh_token": "r", "expires_in": 3600})
        if path.endswith(("/output", "/recording", "/export")):
            return httpx.Response(200, content=f"{self._text}\n".encode(), headers={"Onsembl-Start": "0"})
        operation = _operation(request.method, path)
        if operation is None:  # of the sign-in of agents, which is not a part of the REST API
            return httpx.Response(400, json={"error": "access_denied", "error_description": self._text})
        schema = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
        answer = self._sample(schema["content"]["application/json"]["schema"])
        return httpx.Response(200, content=json.dumps(answer))

    def _sample(self, schema: dict[str, Any], name: str = "") -> Any:
        # The last page; a cron expression without a fault.
        if (name.startswith("next_") and name != "next_at") or name == "problem":
            return None
        if "$ref" in schema:
            return self._sample(_components()[schema["$ref"].rpartition("/")[2]], name)
        for choice in ("anyOf", "oneOf", "allOf"):
            if choice in schema:
                options = [option for option in schema[choice] if option.get("type") != "null"]
                return self._sample(options[0], name)
        if "enum" in schema:
            # A command that has ended: what waits for it goes on.
            return "succeeded" if CommandState.SUCCEEDED in schema["enum"] else schema["enum"][0]
        if "const" in schema:
            return schema["const"]
        kind = schema.get("type", "string")
        kind = next(one for one in kind if one != "null") if isinstance(kind, list) else kind
        match kind:
            case "object":
                fields = schema.get("properties", {})
                made = {key: self._sample(value, key) for key, value in fields.items()}
                return made or {self._text: 1}
            case "array":
                return [self._sample(schema["items"], name)] if isinstance(schema.get("items"), dict) else []
            case "integer" | "number":
                return 1
            case "boolean":
                return True
            case "null":
                return None
            case _:
                known = (
                    "token"
                    if name.endswith("_token")
                    else {"uuid": ID, "date-time": TIME}.get(schema.get("format", ""))
                )
                return known or self._text


@cache
def _document() -> dict[str, Any]:
    return document()


def _components() -> dict[str, Any]:
    return _document()["components"]["schemas"]


def _operation(method: str, path: str) -> dict[str, Any] | None:
    parts = path.split("/")
    for template, operations in _document()["paths"].items():
        wanted = template.split("/")
        fits = len(wanted) == len(parts) and all(
            a == b or a.startswith("{") for a, b in zip(wanted, parts, strict=True)
        )
        if fits and method.lower() in operations:
            return operations[method.lower()]
    return None
