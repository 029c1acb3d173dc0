"""The OpenAPI document, from which clients are generated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from onsembl.api.http.openapi import document

VERBS = (
    "acknowledge|answer|approve|begin|cancel|close|connect|create|delete|disable|dismiss|edit|enable|enrol|export|"
    "find|fork|import|lift|list|log|move|open|pause|pin|poll|preview|read|reassign|recover|refresh|reject|"
    "rename|report|restart|resume|retry|run|save|search|send|set|start|stop|unpin|update|verify|withdraw"
)
SOMETIMES = {
    "CancelStepAnswer": {"limit"},
    "Turn": {"attachments", "fork_of", "fork_at", "preface", "model", "effort", "permission_mode", "rules", "report"},
    "RateWindow": {"status", "used", "resets_at"},
    "ProblemDetails": {"fields", "state", "revision", "replaceable", "oldest", "latest", "request_id"},
}
"""Fields of answers that are present only where they apply."""
ONLY_WHAT_IS_SET = {"CommandLimits", "FileRules", "Target", "ToolRules"}
"""Types whose unset fields are missing from an answer."""


@pytest.fixture(scope="module")
def api_document() -> dict[str, Any]:
    return document()


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def parts(value: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every JSON object in `value`, with its path."""
    if isinstance(value, dict):
        yield place, value
        for name, item in value.items():
            yield from parts(item, f"{place}/{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from parts(item, f"{place}/{index}")


def reached(document: dict[str, Any], start: Any) -> set[str]:
    """The names of the schemas to which `start` refers, directly or indirectly."""
    found: set[str] = set()
    rest = [start]
    while rest:
        for _, part in parts(rest.pop()):
            name = part.get("$ref", "").removeprefix("#/components/schemas/")
            if name and name not in found:
                found.add(name)
                rest.append(document["components"]["schemas"][name])
    return found


def test_operation_ids_are_distinct_and_say_what_is_done_to_what(api_document):
    """Each operation id is a verb with its noun, so a generated client has one function with this name for each
    route."""
    ids = [operation["operationId"] for operation in operations(api_document)]
    assert len(set(ids)) == len(ids)
    assert [name for name in ids if not re.fullmatch(f"(?:{VERBS})(?:[A-Z][a-z]+)+", name)] == []


def test_every_object_has_a_type(api_document):
    """An object schema names its fields or the type of its values."""
    untyped = [
        place
        for place, part in parts(api_document)
        if part.get("type") == "object" and "properties" not in part and "additionalProperties" not in part
    ]
    assert untyped == []


def test_an_answer_requires_every_field(api_document):
    """An answer requires every field, unless the field does not always apply or is an unset option."""
    schemas = api_document["components"]["schemas"]
    answers = reached(api_document, [operation["responses"] for operation in operations(api_document)])
    for name in answers - ONLY_WHAT_IS_SET:
        fields = set(schemas[name].get("properties", ()))
        assert fields - set(schemas[name].get("required", ())) == SOMETIMES.get(name, set()), name
    for name in ONLY_WHAT_IS_SET:
        assert schemas[name]["required"] == []


def test_a_request_requires_no_field_that_has_a_default(api_document):
    """A request requires no field with a default; a type that is also an answer's has a second schema for requests."""
    schemas = api_document["components"]["schemas"]
    bodies = reached(api_document, [operation.get("requestBody") for operation in operations(api_document)])
    for name in bodies:
        for field, schema in schemas[name].get("properties", {}).items():
            assert "default" not in schema or field not in schemas[name]["required"], f"{name}.{field}"
    assert schemas["VariableInput"]["required"] == ["name"]
    assert set(schemas["Variable"]["required"]) == set(schemas["Variable"]["properties"])


def test_a_query_parameter_without_a_default_is_required(api_document):
    """A query parameter without a default is required, and a parameter with a default is optional."""
    parameters = api_document["paths"]["/v1/schedules/times"]["get"]["parameters"]
    assert {parameter["name"]: parameter["required"] for parameter in parameters} == {"cron": True, "time_zone": False}


def test_every_reference_leads_somewhere(api_document):
    """Every reference has its schema, and every schema is referenced."""
    schemas = api_document["components"]["schemas"]
    assert reached(api_document, api_document["paths"]) == {
        name for name in schemas if schemas[name].get("type") == "object" or "enum" in schemas[name]
    }
