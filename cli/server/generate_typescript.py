"""Writes the page's types from Python's: `protocol.ts` and `rest.ts` in `dashboard/src/lib/`.

`protocol.ts` has the states, the close codes and the messages of the terminal socket. `rest.ts` has the types of the
REST API; openapi-typescript writes it from the OpenAPI document, with the packages of `dashboard/generator/`. A test
holds that both committed files are up to date. Run this program after a change to any of these types:

    ./dev run python -m onsembl.cli.server.generate_typescript
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import types
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Union, cast, get_args, get_origin

import click
import msgspec

from onsembl.api.http.openapi import document
from onsembl.cli.output import print_line
from onsembl.cli.server.dashboard_build import install_for_checks
from onsembl.cli.server.node import node_command, node_environment
from onsembl.protocol import close_codes, keyboard_messages, messages, states
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.states import AgentKind, AgentMode, AgentStatus, CommandState, HaltState, Role

DASHBOARD = Path(__file__).resolve().parents[2] / "dashboard"
GENERATOR = DASHBOARD / "generator"
"""Packages of their own: openapi-typescript needs an older TypeScript than the page."""
PROTOCOL = DASHBOARD / "src" / "lib" / "protocol.ts"
REST = DASHBOARD / "src" / "lib" / "rest.ts"

ENUMS: tuple[type[Enum], ...] = (AgentKind, AgentMode, AgentStatus, HaltState, Role, CommandState)
RECEIVED: tuple[type[msgspec.Struct], ...] = (keyboard_messages.TerminalClient,)
"""Parts of the messages that the page receives: every field is present."""

PROTOCOL_HEADER = """\
// Generated from protocol/ by `python -m onsembl.cli.server.generate_typescript`: change the Python types instead.
// Byte offsets are numbers here: exact up to 2^53, nine petabytes of terminal.
"""
REST_HEADER = """\
// Generated from the OpenAPI document by `python -m onsembl.cli.server.generate_typescript`: change the routes instead.
// SHA-256 of the document: {digest}
"""
OPTIONS = (
    "--root-types",
    "--root-types-no-schema-prefix",
    "--empty-objects-unknown",
    "--default-non-nullable=false",  # the document says itself which fields are required
)

Schema = dict[str, Any]


def protocol_types() -> str:
    """The content of `protocol.ts`."""
    return "\n".join([PROTOCOL_HEADER, *_enums(), *_close_codes(), *_sockets(), *_interfaces()])


def rest_types() -> str:
    """The content of `rest.ts`. Installs the generator's packages. Raises DashboardNotBuilt, CalledProcessError."""
    install_for_checks(GENERATOR, print_line)
    result = subprocess.run(
        [*node_command(), "node_modules/openapi-typescript/bin/cli.js", *OPTIONS],
        cwd=GENERATOR,
        env=node_environment(),
        input=_page_document(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return f"{rest_header()}\n{result.stdout}"


def rest_header() -> str:
    """The first lines of `rest.ts`. They change with the OpenAPI document."""
    return REST_HEADER.format(digest=hashlib.sha256(_page_document().encode()).hexdigest())


def _page_document() -> str:
    """The OpenAPI document without texts and errors: a new wording does not change `rest.ts`."""
    whole = document()
    for operation in (operation for path in whole["paths"].values() for operation in path.values()):
        operation["responses"] = {
            status: response for status, response in operation["responses"].items() if status.startswith("2")
        }
    return json.dumps(_without_texts(whole | {"info": {}}))


def _without_texts(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_texts(item) for item in cast("list[Any]", part)]
    if not isinstance(part, dict):
        return part
    return {
        name: _without_texts(value)
        for name, value in cast("dict[str, Any]", part).items()
        if not (name in ("description", "summary", "title") and isinstance(value, str))
    }


def _enums() -> Iterable[str]:
    for enum in ENUMS:
        values = [str(member.value) for member in enum]
        yield f"{_comment(enum.__doc__)}export const {_plural(enum.__name__)} = {json.dumps(values)} as const;"
        yield f"export type {enum.__name__} = (typeof {_plural(enum.__name__)})[number];\n"
    for name in ("ACTIVE_STATES", "FINAL_STATES"):
        members = sorted(getattr(states, name), key=list(CommandState).index)
        yield f"export const {name}: ReadonlySet<CommandState> = new Set<CommandState>({json.dumps(members)});\n"


def _plural(name: str) -> str:
    words = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in name).lstrip("_")
    return f"{words}ES" if words.endswith("S") else f"{words}S"


def _close_codes() -> Iterable[str]:
    yield f"{_comment(close_codes.CloseCode.__doc__)}export const CloseCode = {{"
    yield from (f"  {code.name}: {code.value}," for code in CloseCode)
    yield "} as const;\n"
    permanent = ", ".join(f"CloseCode.{code.name}" for code in CloseCode if code.is_permanent)
    yield "/** Codes after which the client does not reconnect until a person asks for it. */"
    yield f"export const PERMANENT_CLOSE_CODES: ReadonlySet<number> = new Set<number>([{permanent}]);\n"


def _sockets() -> Iterable[str]:
    yield f"export const TERMINAL_SUBPROTOCOL = {json.dumps(messages.TERMINAL_SUBPROTOCOL)};\n"
    yield from _union("ViewerMessage", messages.ViewerMessage)
    yield from _union("ServerToViewerMessage", messages.ServerToViewerMessage)


def _union(name: str, union: Any) -> Iterable[str]:
    assert get_origin(union) in (Union, types.UnionType), "a union of messages"
    yield f"export type {name} = {' | '.join(member.__name__ for member in get_args(union))};\n"


def _interfaces() -> Iterable[str]:
    from_page = get_args(messages.ViewerMessage)
    from_server = [message for message in get_args(messages.ServerToViewerMessage) if message not in from_page]
    for struct in from_page:
        yield _interface(struct, all_present=False)
    for struct in (*from_server, *RECEIVED):
        yield _interface(struct, all_present=True)


def _interface(struct: type[msgspec.Struct], *, all_present: bool) -> str:
    _, components = msgspec.json.schema_components([struct], ref_template="{name}")
    schema = components[struct.__name__]
    required: list[str] = schema.get("required", [])
    properties: dict[str, Schema] = schema["properties"]
    lines = [
        f"{_comment(field.get('description'), '  ')}  {name}{'' if all_present or name in required else '?'}: "
        f"{_type(field)};"
        for name, field in properties.items()
    ]
    return "\n".join([f"{_comment(struct.__doc__)}export interface {struct.__name__} {{", *lines, "}\n"])


def _type(schema: Schema) -> str:
    """The TypeScript type of one JSON Schema."""
    if "$ref" in schema:
        return str(schema["$ref"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(_type(option) for option in schema["anyOf"])
    match schema.get("type"):
        case "array":
            return f"{_type(schema['items'])}[]"
        case "object":
            others = schema.get("additionalProperties")
            return f"Record<string, {_type(cast('Schema', others)) if isinstance(others, dict) else 'unknown'}>"
        case "integer" | "number":
            return "number"
        case "string" | "boolean" | "null" as name:
            return str(name)
        case _:
            return "unknown"


def _comment(text: str | None, indent: str = "") -> str:
    if not text:
        return ""
    lines = [line.strip() for line in text.strip().splitlines()]
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    return "\n".join([f"{indent}/**", *(f"{indent} * {line}".rstrip() for line in lines), f"{indent} */\n"])


@click.command(help="Write the page's TypeScript types: protocol.ts and rest.ts.")
def main() -> None:
    for file, content in ((PROTOCOL, protocol_types()), (REST, rest_types())):
        file.write_text(content, encoding="utf-8")
        print_line(f"wrote {file}")


if __name__ == "__main__":
    main()
