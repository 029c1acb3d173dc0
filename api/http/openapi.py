"""The OpenAPI 3.1 document, generated from the table of routes and the types they name."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

from onsembl.api.http.client_address import client_address
from onsembl.api.http.endpoint import Endpoint, bearer
from onsembl.api.http.models import NoBody, ProblemDetails
from onsembl.api.http.version import version
from onsembl.api.routes.table import ENDPOINTS
from onsembl.api.services import Services
from onsembl.protocol.states import Role

_PATH_SCHEMAS = {"uuid": {"type": "string", "format": "uuid"}, "int": {"type": "integer"}, "str": {"type": "string"}}
_PROBLEMS = {
    400: "The request is not well formed",
    401: "No token, or not a good one",
    403: "The holder of the token may not do this",
    404: "There is no such thing",
    409: "The state of the thing does not allow it",
    410: "What is asked for is kept no longer",
    413: "The body is too large",
    422: "The body is not valid",
    429: "Too often: `Retry-After` says when to come back",
    502: "The sign-in service did not do its part",
    503: "It takes longer than it may",
}


def document() -> dict[str, Any]:
    """The whole document."""
    models = {ProblemDetails, *(endpoint.answer for endpoint in ENDPOINTS)}
    models |= {endpoint.body for endpoint in ENDPOINTS if endpoint.body is not NoBody}
    ordered = sorted(models, key=lambda model: model.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    references = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        path = re.sub(r":\w+}", "}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Onsembl Control Center", "version": version()},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}],
    }


def _operation(endpoint: Endpoint, references: dict[type, dict[str, Any]]) -> dict[str, Any]:
    token = endpoint.presents if endpoint.role is None else f"{endpoint.presents}, role `{endpoint.role}` or above"
    operation: dict[str, Any] = {
        "operationId": endpoint.handler.__name__,
        "summary": endpoint.summary,
        "description": f"Bearer token: {token}.",
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint)],
        "responses": {
            str(endpoint.status): {
                "description": endpoint.summary,
                "content": _content(endpoint, references),
            }
        },
    }
    refusals = {401, 429, *endpoint.problems}
    if endpoint.role is not None:
        refusals.add(403)
    if endpoint.query is not None:
        refusals.add(400)
    if endpoint.body is not NoBody:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": references[endpoint.body]}},
        }
        refusals |= {400, 413, 422}
    for status in sorted(refusals):
        operation["responses"][str(status)] = {
            "description": _PROBLEMS[status],
            "content": {"application/problem+json": {"schema": references[ProblemDetails]}},
        }
    return operation


def _content(endpoint: Endpoint, references: Any) -> dict[str, Any]:
    if endpoint.media_type != "application/json":
        return {endpoint.media_type: {}}
    return {"application/json": {"schema": references[endpoint.answer]}}


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS[kind]}
        for name, kind in re.findall(r"{(\w+):(\w+)}", endpoint.path)
    ]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    if endpoint.query is None:
        return []
    schema = msgspec.json.schema(endpoint.query, ref_template="#/components/schemas/{name}")
    properties: dict[str, Any] = schema["$defs"][endpoint.query.__name__]["properties"]
    return [{"name": name, "in": "query", "schema": field} for name, field in properties.items()]


async def openapi(request: Request) -> Response:
    """Serves the document to whoever is signed in."""
    services: Services = request.app.state.services
    await services.authorize(bearer(request), Role.VIEWER, client_address(request))
    return Response(orjson.dumps(document()), media_type="application/json")
