"""Presets: a named template of a command's text, with typed variables. Checking and rendering are pure functions.

In a template `{{name}}` is a variable's value. The section `{{#name}}…{{/name}}` is rendered only if the variable has a
value (a boolean: if it is true), `{{^name}}…{{/name}}` only if it has none. Sections may be nested. A line that has
only the mark of a section leaves no empty line. Other braces are plain text, and values are never taken for templates.
The marks are those of Mustache.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from onsembl.protocol.field_types import (
    MAX_TEXT,
    MAX_TEXT_BYTES,
    NO_NUL,
    Name,
    Priority,
    VariableName,
)
from onsembl.protocol.limits import REQUESTED_NO_LIMITS, RequestedLimits
from onsembl.protocol.states import AgentKind
from onsembl.protocol.tool_rules import REQUESTED_NO_RULES, RequestedRules

MAX_VARIABLES = 50
MAX_REPORTS = 20
"""The most reports in the value of one variable."""

VariableType = Literal["text", "long_text", "choice", "integer", "boolean", "path", "reports"]
Integer = Annotated[int, Meta(ge=-(2**53) + 1, le=2**53 - 1)]
"""JavaScript has these integers exactly, so the page shows them as they are."""
Value = bool | Integer | Annotated[str, Meta(max_length=MAX_TEXT, pattern=NO_NUL)]
Values = Annotated[dict[Annotated[str, Meta(max_length=64, pattern=NO_NUL)], Value], Meta(max_length=MAX_VARIABLES)]
Description = Annotated[str, Meta(max_length=500, pattern=NO_NUL)]
Template = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT, pattern=NO_NUL)]
Choice = Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_NUL)]
Kinds = Annotated[list[AgentKind], Meta(max_length=len(AgentKind))]
"""The kinds of agents that a preset is for; empty for every kind."""


class Variable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A variable of a template. `text` and `path` are one line, `long_text` may have several; `choice` is one of
    `choices`. A value of the type `reports` is ids of reports, for which the server inserts the reports."""

    name: VariableName
    type: VariableType = "text"
    help: Annotated[str, Meta(max_length=500, pattern=NO_NUL)] = ""
    required: bool = False
    default: Value | None = None
    choices: Annotated[list[Choice], Meta(max_length=50)] = []


Variables = Annotated[list[Variable], Meta(max_length=MAX_VARIABLES)]


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A template with its variables.

    With `kinds`, the preset is only for agents of these kinds. `priority` and `limits` are defaults for its commands;
    `rules` are in force in each of them. With `report`, their answers are reports (`protocol.reports`).
    """

    name: Name
    description: Description = ""
    template: Template
    variables: Variables = []
    priority: Priority | None = None
    kinds: Kinds = []
    kind: AgentKind | None = None
    """As `kinds` with this kind, as earlier clients write it."""
    limits: RequestedLimits = REQUESTED_NO_LIMITS
    rules: RequestedRules = REQUESTED_NO_RULES
    report: bool = False

    def fits(self, kind: str) -> bool:
        """Whether the preset is for agents of this kind."""
        return kind in self.kinds or (kind == self.kind if self.kind is not None else not self.kinds)


class PresetError(ValueError):
    """A preset is not valid; the text says why."""


class ValuesError(ValueError):
    """Values do not fit a preset: `fields` has an error for each wrong variable."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {what}" for name, what in fields.items()))
        self.fields = dict(fields)


def check(preset: Preset) -> None:
    """Validate a preset.

    Raises PresetError for a repeated variable, a default of the wrong type, a choice without choices, and a template
    with an unknown variable or a section that does not close.
    """
    names = [variable.name for variable in preset.variables]
    for name in names:
        if names.count(name) > 1:
            raise PresetError(f"There are several variables named {name}.")
    for variable in preset.variables:
        if (variable.type == "choice") != bool(variable.choices):
            raise PresetError(f"{variable.name}: a variable of type choice needs choices, other types take none.")
        if len(set(variable.choices)) < len(variable.choices):
            raise PresetError(f"{variable.name}: a choice is repeated.")
        if variable.default is not None and (wrong := _wrong(variable, variable.default)) is not None:
            raise PresetError(f"{variable.name}: the default {wrong}.")
    used = {mark.name for mark in _marks(preset.template)}
    if unknown := sorted(used - set(names)):
        raise PresetError(f"The template names unknown variables: {', '.join(unknown)}.")
    _parse(preset.template)


def render(preset: Preset, values: Mapping[str, Value], reports: Mapping[UUID, str] | None = None) -> str:
    """Render the command text of a valid preset. `reports` has the text of each report that a value names; without it,
    as in a preview, their ids are shown.

    Raises ValuesError for a value of an unknown variable or of the wrong type, for a missing value, and when the text
    would be empty or too long.
    """
    wrong = {name: "there is no such variable" for name in values if name not in {v.name for v in preset.variables}}
    filled: dict[str, Value] = {}
    for variable in preset.variables:
        value = values.get(variable.name)
        if value is None or value == "":
            value = variable.default
        if value is None or value == "":
            if variable.required:
                wrong[variable.name] = "is required"
        elif (reason := _wrong(variable, value)) is not None:
            wrong[variable.name] = reason
        elif variable.type == "reports" and reports is not None:
            ids = report_ids(str(value))
            if missing := [str(id) for id in ids if id not in reports]:
                wrong[variable.name] = f"names reports that do not exist: {', '.join(missing)}"
            filled[variable.name] = "\n\n".join(reports.get(id, "") for id in ids)
        else:
            filled[variable.name] = value
    if wrong:
        raise ValuesError(wrong)
    text = "".join(_rendered(_parse(preset.template), filled)).strip()
    if not text:
        raise ValuesError({"": "with these values the text is empty"})
    size = len(text.encode())
    if size > MAX_TEXT_BYTES:
        raise ValuesError({"": f"the text would have {size:,} bytes; a command has at most {MAX_TEXT_BYTES:,}"})
    return text


def read_value(variable: Variable, text: str) -> Value:
    """Parse a value from a command line. Raises ValuesError."""
    if variable.type == "boolean":
        if text.lower() not in _BOOLEANS:
            raise ValuesError({variable.name: "has to be yes or no"})
        return _BOOLEANS[text.lower()]
    if variable.type == "integer":
        try:
            return int(text)
        except ValueError as error:
            raise ValuesError({variable.name: "has to be a whole number"}) from error
    return text


_BOOLEANS = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
_MARK = re.compile(r"\{\{\s*(?P<kind>[#^/]?)\s*(?P<name>[a-z][a-z0-9_]*)\s*\}\}")


@dataclass(frozen=True, slots=True)
class _Mark:
    """A mark such as `{{name}}`, at [start, end) of the template; a section's mark includes its line if it is alone."""

    kind: str
    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Section:
    """A section: its parts are rendered or not, depending on the variable."""

    name: str
    inverted: bool
    parts: list[str | _Mark | _Section]


def _wrong(variable: Variable, value: Value) -> str | None:
    match variable.type:
        case "boolean":
            return None if isinstance(value, bool) else "has to be yes or no"
        case "integer":
            return None if isinstance(value, int) and not isinstance(value, bool) else "has to be a whole number"
        case _ if not isinstance(value, str):
            return "has to be a text"
        case "choice":
            return None if value in variable.choices else f"has to be one of {', '.join(variable.choices)}"
        case "long_text":
            return None
        case "reports":
            return _wrong_reports(value)
        case "text" | "path":
            return "has to be one line" if "\n" in value or "\r" in value else None


def report_ids(value: str) -> list[UUID]:
    """The ids in a value of the type `reports`, which are separated by spaces, line ends or commas. Raises
    ValueError."""
    return list(dict.fromkeys(UUID(text) for text in value.replace(",", " ").split()))


def _wrong_reports(value: str) -> str | None:
    try:
        ids = report_ids(value)
    except ValueError:
        return "has to be ids of reports"
    return f"has more than {MAX_REPORTS} reports" if len(ids) > MAX_REPORTS else None


def _marks(template: str) -> Iterator[_Mark]:
    for found in _MARK.finditer(template):
        start, end = found.span()
        if found["kind"]:
            line_start = template.rfind("\n", 0, start) + 1
            line_end = template.find("\n", end)
            line_end = len(template) if line_end < 0 else line_end + 1
            if not template[line_start:start].strip() and not template[end:line_end].strip():
                start, end = line_start, line_end
        yield _Mark(found["kind"], found["name"], start, end)


def _parse(template: str) -> list[str | _Mark | _Section]:
    """Parse a template. Raises PresetError for a section that does not close, or was not opened."""
    top = _Section("", False, [])
    open_sections = [top]
    at = 0
    for mark in _marks(template):
        parts = open_sections[-1].parts
        parts.append(template[at : mark.start])
        at = mark.end
        if mark.kind == "":
            parts.append(mark)
        elif mark.kind == "/":
            if open_sections[-1] is top or open_sections[-1].name != mark.name:
                raise PresetError(f"{{{{/{mark.name}}}}} closes a section that is not open.")
            open_sections.pop()
        else:
            section = _Section(mark.name, mark.kind == "^", [])
            parts.append(section)
            open_sections.append(section)
    top.parts.append(template[at:])
    if open_sections[-1] is not top:
        raise PresetError(f"The section {open_sections[-1].name} does not end: {{{{/{open_sections[-1].name}}}}}.")
    return top.parts


def _rendered(parts: Sequence[str | _Mark | _Section], values: Mapping[str, Value]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part, _Mark):
            yield _shown(values.get(part.name))
        else:
            value = values.get(part.name)
            given = value is not None and value is not False  # zero counts as a value
            if given is not part.inverted:
                yield from _rendered(part.parts, values)


def _shown(value: Value | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
