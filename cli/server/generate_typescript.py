"""Generate `dashboard/src/lib/protocol.ts`, the dashboard's types, from the Python types.

States, close codes, the messages of the terminal socket and the REST models are defined once, in Python. A test checks
that the committed file is up to date. Run this program after a change to any of them:

    ./dev run python -m onsembl.cli.server.generate_typescript
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Union, cast, get_args, get_origin

import click
import msgspec

from onsembl.api.http import models
from onsembl.api.routes import commands_models as command_models
from onsembl.api.routes import halt as halt_routes
from onsembl.api.routes import presets as preset_routes
from onsembl.api.routes import recordings_models as recording_models
from onsembl.api.routes import schedules_models as schedule_models
from onsembl.api.routes import search_models, stats_models
from onsembl.protocol import close_codes, keyboard_messages, limits, messages, presets, states
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.states import AgentKind, AgentMode, AgentStatus, CommandState, HaltState, Role

TARGET = Path(__file__).resolve().parents[2] / "dashboard" / "src" / "lib" / "protocol.ts"

ENUMS: tuple[type[Enum], ...] = (AgentKind, AgentMode, AgentStatus, HaltState, Role, CommandState)
SENT: tuple[type[msgspec.Struct], ...] = (
    models.NewCommand,
    models.CancelRequest,
    models.NewEnrolmentToken,
    models.DeviceDecision,
    halt_routes.NewHalt,
    command_models.EditCommand,
    command_models.MoveCommand,
    command_models.Target,
    command_models.NewGroup,
    schedule_models.NewSchedule,
    schedule_models.ChangedSchedule,
    preset_routes.SavePreset,
    preset_routes.PreviewPreset,
    presets.Preset,
    limits.CommandLimits,
)
"""Requests of the dashboard: a field with a default may be left out."""
ANSWERS: tuple[type[msgspec.Struct], ...] = (
    models.Me,
    models.Agent,
    models.Agents,
    models.Command,
    models.Commands,
    command_models.QueuedCommand,
    command_models.AgentQueue,
    command_models.GroupSummary,
    command_models.Group,
    command_models.Groups,
    command_models.TagCount,
    command_models.Tags,
    schedule_models.ScheduleRun,
    schedule_models.ScheduleAnswer,
    schedule_models.Schedules,
    schedule_models.ScheduleRuns,
    schedule_models.NextTimes,
    presets.Variable,
    preset_routes.PresetAnswer,
    preset_routes.Presets,
    preset_routes.PreviewedPreset,
    models.EnrolmentToken,
    models.UnusedEnrolmentToken,
    models.UnusedEnrolmentTokens,
    models.OperatorAnswer,
    models.Operators,
    models.AlertAnswer,
    models.Alerts,
    stats_models.Distribution,
    stats_models.PoolStatistics,
    stats_models.QueueStatistics,
    stats_models.UnfinishedCommands,
    stats_models.Statistics,
    models.AuditChain,
    models.AuditEvent,
    models.AuditPage,
    models.DeviceRequest,
    models.DeviceRequests,
    models.ProblemDetails,
    messages.Usage,
    models.CancelStepAnswer,
    recording_models.Stream,
    recording_models.Streams,
    recording_models.Activity,
    recording_models.RecordedCommand,
    recording_models.RecordedCommands,
    recording_models.TerminalSize,
    recording_models.Timeline,
    recording_models.TerminalModesAnswer,
    recording_models.AgentUsage,
    recording_models.ArchiveUsage,
    search_models.Excerpt,
    search_models.SearchHit,
    search_models.SearchHits,
    keyboard_messages.TerminalClient,
    halt_routes.HaltedAgent,
    halt_routes.HaltAnswer,
    halt_routes.HaltStatus,
)
"""Answers of the server: every field is present, except those that may be unset."""

HEADER = """\
// Generated from protocol/ and api/http/models.py by `python -m onsembl.cli.server.generate_typescript`:
// change those instead.
// Byte offsets are numbers here: exact up to 2^53, nine petabytes of terminal.
"""

Schema = dict[str, Any]


def typescript() -> str:
    """The text of the generated file."""
    return "\n".join([HEADER, *_enums(), *_close_codes(), *_sockets(), *_interfaces()])


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
    yield "/** Codes after which coming back without a person's help is pointless. */"
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
    for struct in (*from_page, *SENT):
        yield _interface(struct, all_present=False)
    for struct in (*from_server, *ANSWERS):
        yield _interface(struct, all_present=True)


def _interface(struct: type[msgspec.Struct], *, all_present: bool) -> str:
    _, components = msgspec.json.schema_components([struct], ref_template="{name}")
    schema = components[struct.__name__]
    properties: dict[str, Schema] = schema["properties"]
    sometimes = {field.encode_name for field in msgspec.structs.fields(struct) if field.default is msgspec.UNSET}
    present = properties.keys() - sometimes if all_present else set[str](schema["required"])
    lines = [
        f"{_comment(field.get('description'), '  ')}  {name}{'' if name in present else '?'}: {_type(field)};"
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


@click.command(help="Write the dashboard's copy of the protocol's types.")
def main() -> None:
    TARGET.write_text(typescript(), encoding="utf-8")
    click.echo(f"wrote {TARGET}")


if __name__ == "__main__":
    main()
