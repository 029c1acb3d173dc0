"""Presets: list, preview, save and delete them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Answer, Body, NoBody, Time
from onsembl.api.http.problems import Problem, found
from onsembl.api.routes.commands_models import Revision
from onsembl.protocol.field_types import Name, Priority
from onsembl.protocol.limits import REQUESTED_NO_LIMITS, CommandLimits, RequestedLimits
from onsembl.protocol.presets import (
    Description,
    Kinds,
    Preset,
    PresetError,
    Template,
    Value,
    Values,
    ValuesError,
    Variable,
    Variables,
    check,
    render,
)
from onsembl.protocol.shipped_presets import SHIPPED
from onsembl.protocol.states import AgentKind, Role
from onsembl.protocol.tool_rules import REQUESTED_NO_RULES, RequestedRules, ToolRules
from onsembl.sql import audit, presets


class PresetAnswer(Answer, frozen=True, kw_only=True):
    """A preset, for agents of these `kinds`; with none, for agents of every kind. `kind` is the
    only one, for earlier clients. With `report`, its commands are answered with a report (`/v1/reports`).

    A built-in (`shipped`) preset cannot be changed or deleted; its revision is 0.
    """

    name: str
    description: str
    template: str
    variables: list[Variable]
    priority: Priority | None
    kind: AgentKind | None
    kinds: list[AgentKind]
    limits: CommandLimits
    rules: ToolRules
    report: bool
    shipped: bool
    revision: int
    updated_at: Time | None
    updated_by_name: str


class Presets(Answer, frozen=True, kw_only=True):
    """All presets: built-in ones first, then by name."""

    presets: list[PresetAnswer]


class SavePreset(Body, frozen=True, kw_only=True):
    """The whole content of a preset; `name` renames it. With `revision`, the preset is saved only if that is still its
    revision; with 0, only if no preset of that name exists. `kind` is the form of `kinds` of earlier clients. With
    `report`, its commands are answered with a report."""

    template: Template
    description: Description = ""
    variables: Variables = msgspec.field(default_factory=list[Variable])
    priority: Priority | None = None
    kinds: Kinds = msgspec.field(default_factory=list[AgentKind])
    kind: AgentKind | None = None
    limits: RequestedLimits = REQUESTED_NO_LIMITS
    rules: RequestedRules = REQUESTED_NO_RULES
    report: bool = False
    name: Name | None = None
    revision: Revision | None = None


class PreviewPreset(Body, frozen=True, kw_only=True):
    """A preset, saved or not, with values for its variables."""

    preset: Preset
    values: Values = msgspec.field(default_factory=dict[str, Value])


class PreviewedPreset(Answer, frozen=True, kw_only=True):
    """The rendered text; or the `problem` with the preset, or with the values (`fields`)."""

    text: str | None
    problem: str | None
    fields: dict[str, str]


async def list_presets(call: Call[NoBody]) -> dict[str, object]:
    async with call.services.pool.connection() as conn:
        kept = await presets.list_presets(conn)
    return {"presets": [*map(_shipped, SHIPPED.values()), *map(_kept, kept)]}


async def read_preset(call: Call[NoBody]) -> PresetAnswer | DictRow:
    name = call.request.path_params["name"]
    shipped = SHIPPED.get(name.lower())
    if shipped is not None:
        return _shipped(shipped)
    async with call.services.pool.connection() as conn:
        row = found(await presets.get(conn, name), "preset")
    return _kept(row)


async def save_preset(call: Call[SavePreset]) -> PresetAnswer | DictRow:
    body = call.body
    name = call.request.path_params["name"]
    preset = _whole(name, body)
    async with call.services.pool.connection() as conn:
        before = await presets.get(conn, name)
        known = before["revision"] if before is not None else 0
        if body.revision is not None and body.revision != known:
            raise Problem(409, _changed(body.revision, known), revision=known)
        named_by = 0
        if body.name is not None:
            found(before, "preset")
            named_by = await presets.rename(conn, name, body.name)
            if named_by is None:
                raise Problem(409, "A preset of that name already exists.")
        row = await presets.save(conn, preset, call.signed_in.id, call.signed_in.email)
        if body.revision == 0 and row["revision"] > 1:
            raise Problem(409, _changed(0, row["revision"]), revision=row["revision"])
        was, now = _content(before) if before is not None else {}, _content(row)
        detail: dict[str, object] = {
            name: [was.get(name), value] for name, value in now.items() if was.get(name) != value
        }
        if named_by:
            detail["schedules"] = named_by
        await audit.write(conn, _event(call.actor, "preset.saved", preset.name, detail))
    return _kept(row)


async def delete_preset(call: Call[NoBody]) -> PresetAnswer | DictRow:
    name = call.request.path_params["name"]
    if name.lower() in SHIPPED:
        raise Problem(409, "A built-in preset cannot be deleted.")
    async with call.services.pool.connection() as conn:
        row = found(await presets.delete(conn, name), "preset")
        await audit.write(conn, _event(call.actor, "preset.deleted", row["name"], _content(row)))
    return _kept(row)


async def preview_preset(call: Call[PreviewPreset]) -> PreviewedPreset:
    """Render a preset; nothing is saved or sent."""
    try:
        check(call.body.preset)
        return PreviewedPreset(text=render(call.body.preset, call.body.values), problem=None, fields={})
    except PresetError as error:
        return PreviewedPreset(text=None, problem=str(error), fields={})
    except ValuesError as error:
        return PreviewedPreset(text=None, problem=error.fields.pop("", None), fields=error.fields)


def _whole(name: str, body: SavePreset) -> Preset:
    fields = msgspec.to_builtins(body)
    del fields["revision"]
    try:
        preset = msgspec.convert({**fields, "name": body.name or name}, Preset)
        check(preset)
    except (msgspec.ValidationError, PresetError) as error:
        raise Problem(422, f"The preset is invalid: {error}") from error
    if {name.lower(), preset.name.lower()} & SHIPPED.keys():
        raise Problem(409, "A built-in preset cannot be changed. Save a copy under another name.")
    return preset


def _changed(asked: int, known: int) -> str:
    if known == 0:
        return "The preset was deleted in the meantime."
    return (
        "A preset of that name already exists."
        if asked == 0
        else "The preset was changed in the meantime. Read it again."
    )


def _shipped(preset: Preset) -> PresetAnswer:
    return PresetAnswer(**msgspec.structs.asdict(preset), shipped=True, revision=0, updated_at=None, updated_by_name="")


def _kept(row: DictRow) -> PresetAnswer | DictRow:
    """A saved preset. One that is invalid is shown as it is, so that it can be mended or deleted."""
    fields = {name: row[name] for name in PresetAnswer.__struct_fields__ if name in row} | {"shipped": False}
    try:
        return msgspec.convert(fields, PresetAnswer)
    except (msgspec.ValidationError, RecursionError):
        return fields


def _content(row: DictRow) -> dict[str, object]:
    saved = ("name", "description", "template", "variables", "priority", "kinds", "limits", "rules", "report")
    return {name: row[name] for name in saved}


def _event(actor: audit.Actor, action: str, name: str, detail: Mapping[str, object]) -> audit.Event:
    return audit.Event(actor=actor, action=action, target_kind="preset", target_id=name, detail=detail)


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/presets",
        handler=list_presets,
        summary="List presets: built-in ones first, then by name",
        answer=Presets,
    ),
    Endpoint(
        method="POST",
        path="/v1/presets/preview",
        handler=preview_preset,
        summary="Render a preset with values; nothing is saved or sent",
        answer=PreviewedPreset,
        body=PreviewPreset,
    ),
    Endpoint(
        method="GET",
        path="/v1/presets/{name:str}",
        handler=read_preset,
        summary="Read a preset; its name is case-insensitive",
        answer=PresetAnswer,
        problems=(404,),
    ),
    Endpoint(
        method="PUT",
        path="/v1/presets/{name:str}",
        handler=save_preset,
        summary="Create, change or rename a preset",
        answer=PresetAnswer,
        role=Role.OPERATOR,
        body=SavePreset,
        problems=(404, 409),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/presets/{name:str}",
        handler=delete_preset,
        summary="Delete a preset",
        answer=PresetAnswer,
        role=Role.OPERATOR,
        problems=(404, 409),
    ),
]
