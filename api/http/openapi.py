"""The OpenAPI 3.1 document, generated from the table of routes and the types that the routes name.

A type has one schema as a request and another as an answer: a field with a default is optional in a request, and is
always present in an answer. A type that occurs in both, with schemas that differ, is named `…Input` in requests.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from inspect import cleandoc
from typing import Any, cast

import msgspec
import orjson
from msgspec import UNSET, inspect
from starlette.requests import Request
from starlette.responses import Response

from onsembl.api.http.client_address import client_address
from onsembl.api.http.dashboard import version
from onsembl.api.http.endpoint import Endpoint, bearer
from onsembl.api.http.models import NoBody, ProblemDetails
from onsembl.api.routes.table import ENDPOINTS
from onsembl.api.services import Services
from onsembl.protocol.attachments import PLAIN_FILE
from onsembl.protocol.states import Role

Schema = dict[str, Any]

_PREFIX = "#/components/schemas/"
_PATH_SCHEMAS = {
    "uuid": {"type": "string", "format": "uuid"},
    "number": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
    "str": {"type": "string"},
}
_PROBLEMS = {
    400: "The request is malformed",
    401: "The token is missing or invalid",
    403: "The token does not permit this",
    404: "Not found",
    409: "The current state does not allow this",
    410: "The requested bytes or events are no longer kept",
    413: "The body is too large",
    415: "The content is not of a type that is taken",
    422: "The body is invalid",
    429: "Too many requests: `Retry-After` says when to try again",
    502: "The sign-in service failed",
    503: "Temporarily unavailable, or the request takes too long",
    504: "The agent does not answer in time",
}


def document() -> dict[str, Any]:
    """The whole document."""
    requests = _request_schemas()
    answers = _answer_schemas()
    renamed = {name for name in requests.keys() & answers.keys() if requests[name] != answers[name]}
    input_names = {name: f"{name}Input" if name in renamed else name for name in requests}
    components = answers | {
        name: {**_rename(requests[old], input_names), "title": name} for old, name in input_names.items()
    }
    queries = {endpoint.query for endpoint in ENDPOINTS if endpoint.query is not None}
    parameters = {query: components.pop(input_names[query.__name__]) for query in queries}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        path = re.sub(r":\w+}", "}", endpoint.path)
        body = input_names[endpoint.body.__name__] if endpoint.body is not NoBody else None
        query = parameters[endpoint.query] if endpoint.query is not None else None
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, body, query)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Onsembl Control Center", "version": version()},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}],
    }


def operation_id(endpoint: Endpoint) -> str:
    """The handler's name in camel case: `begin_halt` is `beginHalt`."""
    verb, *nouns = endpoint.handler.__name__.split("_")
    return verb + "".join(noun.capitalize() for noun in nouns)


def _request_schemas() -> dict[str, Schema]:
    bodies = {endpoint.body for endpoint in ENDPOINTS if endpoint.body is not NoBody}
    return _schemas(bodies | {endpoint.query for endpoint in ENDPOINTS if endpoint.query is not None})


def _answer_schemas() -> dict[str, Schema]:
    """The schemas of answers: every field that the server always sends is required."""
    models = {ProblemDetails, *(endpoint.answer for endpoint in ENDPOINTS if endpoint.is_json)}
    schemas = _schemas(models)
    for model in _structs(inspect.multi_type_info(models)):
        if model.__struct_config__.omit_defaults:
            continue
        schema = schemas[model.__name__]
        tag = model.__struct_config__.tag_field
        schema["required"] = [] if tag is None else [tag]
        schema["required"] += [
            field.encode_name for field in msgspec.structs.fields(model) if field.default is not UNSET
        ]
        for field in schema["properties"].values():
            field.pop("default", None)
    return schemas


def _schemas(models: Collection[type[msgspec.Struct]]) -> dict[str, Schema]:
    """The schemas of these models, and of the types that the models contain, by name."""
    ordered = sorted(models, key=lambda model: model.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template=_PREFIX + "{name}")
    for schema in components.values():
        schema["description"] = cleandoc(schema["description"])
    return components


def _structs(types: Collection[inspect.Type]) -> Iterator[type[msgspec.Struct]]:
    """Every struct among these types, and among the types that they contain."""
    seen: set[type[msgspec.Struct]] = set()
    rest = list(types)
    while rest:
        match rest.pop():
            case inspect.StructType(cls=cls, fields=fields):
                if cls not in seen:
                    seen.add(cls)
                    rest += [field.type for field in fields]
            case inspect.UnionType(types=options):
                rest += options
            case inspect.Metadata(type=inner):
                rest.append(inner)
            case inspect.ListType(item_type=item):
                rest.append(item)
            case inspect.DictType(key_type=key, value_type=value):
                rest += (key, value)
            case _:
                pass
    yield from seen


def _rename(value: Any, names: Mapping[str, str]) -> Any:
    """A part of a schema, with references to the new names of the types."""
    match value:
        case {"$ref": str(name)}:
            return {**value, "$ref": _PREFIX + names[name.removeprefix(_PREFIX)]}
        case dict():
            return {key: _rename(item, names) for key, item in cast("Schema", value).items()}
        case list():
            return [_rename(item, names) for item in cast("list[Any]", value)]
        case _:
            return value


def _reference(name: str) -> Schema:
    return {"$ref": _PREFIX + name}


def _operation(endpoint: Endpoint, body: str | None, query: Schema | None) -> dict[str, Any]:
    token = endpoint.presents if endpoint.role is None else f"{endpoint.presents}, role `{endpoint.role}` or above"
    operation: dict[str, Any] = {
        "operationId": operation_id(endpoint),
        "summary": endpoint.summary,
        "description": f"Bearer token: {token}.",
        "parameters": [*_path_parameters(endpoint), *_query_parameters(query)],
        "responses": {
            str(endpoint.status): {
                "description": endpoint.summary,
                "content": _content(endpoint),
            }
        },
    }
    problems = {401, 429, *endpoint.problems}
    if endpoint.role is not None:
        problems.add(403)
    if query is not None:
        problems.add(400)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _reference(body)}}}
        problems |= {400, 413, 422}
    if endpoint.takes_file:
        operation["requestBody"] = {"required": True, "content": _file(PLAIN_FILE)}
    for status in sorted(problems):
        operation["responses"][str(status)] = {
            "description": _PROBLEMS[status],
            "content": {"application/problem+json": {"schema": _reference(ProblemDetails.__name__)}},
        }
    return operation


def _content(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.is_json:
        stream = {endpoint.streams: {"schema": {"type": "string"}}} if endpoint.streams is not None else {}
        return {endpoint.media_type: {"schema": _reference(endpoint.answer.__name__)}, **stream}
    return _file(endpoint.media_type)


def _file(media_type: str) -> dict[str, Any]:
    return {media_type: {"schema": {"type": "string", "format": "binary"}}}


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS[kind]}
        for name, kind in re.findall(r"{(\w+):(\w+)}", endpoint.path)
    ]


def _query_parameters(query: Schema | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    return [
        {"name": name, "in": "query", "required": name in query["required"], "schema": field}
        for name, field in query["properties"].items()
    ]


async def openapi(request: Request) -> Response:
    """Serve the document to a signed-in operator."""
    services: Services = request.app.state.services
    await services.authorize(bearer(request), Role.VIEWER, client_address(request))
    return Response(orjson.dumps(document()), media_type="application/json")
