"""The device flow: the two routes of RFC 8628 for agents, and the routes by which an admin decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from psycopg.rows import DictRow
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onsembl.api.auth.device_flow import EXPIRES_SECONDS, DeviceError, format_user_code, parse_user_code
from onsembl.api.http.client_address import client_address
from onsembl.api.http.endpoint import Call, Endpoint, body_of
from onsembl.api.http.models import Answer, Body, NoBody, Time
from onsembl.api.http.problems import Problem
from onsembl.api.services import Services
from onsembl.protocol.enrolment import (
    GRANT_TYPE,
    POLL_SECONDS,
    DeviceAuthorization,
    DeviceErrorAnswer,
    DeviceErrorCode,
    Enrolment,
)
from onsembl.protocol.field_types import Name
from onsembl.protocol.states import AgentKind, AgentMode, Role
from onsembl.sql import device_requests

FORM = "application/x-www-form-urlencoded"
MAX_FORM_BYTES = 16_384
PENDING = (DeviceErrorCode.AUTHORIZATION_PENDING, DeviceErrorCode.SLOW_DOWN)
FORBID_CACHING = {"Cache-Control": "no-store"}


class DeviceRequest(Answer, frozen=True, kw_only=True):
    """An agent that asks for approval: a row of `onsembl.device_requests`."""

    id: UUID
    user_code: str
    name: str
    kind: AgentKind
    mode: AgentMode
    host: str
    platform: str
    address: str
    created_at: Time
    expires_at: Time
    state: Literal["waiting", "approved", "refused"]
    decided_at: Time | None
    decided_by: UUID | None
    agent_id: UUID | None


class DeviceRequests(Answer, frozen=True, kw_only=True):
    """Agents that wait for approval, newest first."""

    requests: list[DeviceRequest]


class DeviceDecision(Body, frozen=True, kw_only=True):
    """The approval of an agent, under another name if one is given. With `replace` the agent replaces the existing
    agent of that name, whose credentials are revoked."""

    name: Name | None = None
    replace: bool = False


async def authorize_device(request: Request) -> Response:
    """RFC 8628 §3.1: besides `client_id`, the agent says what it would be: name, kind, mode, host, platform."""
    services: Services = request.app.state.services
    address = client_address(request)
    services.rate_limiter.count_device_request(address)
    form = await _form(request)
    try:
        enrolment = msgspec.convert(
            {name: value for name, value in form.items() if name in Enrolment.__struct_fields__}, Enrolment
        )
    except msgspec.ValidationError as error:
        return _error(DeviceErrorCode.INVALID_REQUEST, str(error))
    codes = await services.device_flow.open(enrolment, address)
    uri = f"{services.settings.public_url}/#/approve"
    authorization = DeviceAuthorization(
        device_code=codes.device_code,
        user_code=format_user_code(codes.user_code),
        verification_uri=uri,
        verification_uri_complete=f"{uri}?code={format_user_code(codes.user_code)}",
        expires_in=int(EXPIRES_SECONDS),
        interval=POLL_SECONDS,
    )
    return JSONResponse(msgspec.to_builtins(authorization), headers=FORBID_CACHING)


async def device_token(request: Request) -> Response:
    """RFC 8628 §3.4 and §3.5."""
    services: Services = request.app.state.services
    address = client_address(request)
    services.rate_limiter.count_token_request(address)
    form = await _form(request)
    if form.get("grant_type") != GRANT_TYPE:
        return _error(DeviceErrorCode.UNSUPPORTED_GRANT_TYPE, f"grant_type is {GRANT_TYPE}.")
    try:
        issued = await services.device_flow.poll(form.get("device_code", ""), address)
    except DeviceError as error:
        if error.code is DeviceErrorCode.INVALID_GRANT:
            services.rate_limiter.record_failure(address)
        raise
    return JSONResponse({**msgspec.to_builtins(issued), "token_type": "Bearer"}, headers=FORBID_CACHING)


def _device_route(path: str, handler: Callable[[Request], Awaitable[Response]]) -> Route:
    """A route for agents. Who is turned away is noted; an agent that is to wait is not turned away."""

    async def serve(request: Request) -> Response:
        services: Services = request.app.state.services
        try:
            return await handler(request)
        except Problem as problem:
            if problem.status == 429:
                services.rejections.record(f"POST {path}", problem.detail, client_address(request))
            raise
        except DeviceError as error:
            if error.code not in PENDING:
                services.rejections.record(f"POST {path}", str(error), client_address(request))
            status = 503 if error.code is DeviceErrorCode.TEMPORARILY_UNAVAILABLE else 400
            return _error(error.code, str(error), status)

    return Route(path, serve, methods=["POST"])


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form. Raises Problem 400, 408, 413 or 415."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise Problem(415, f"This takes {FORM} (RFC 8628 §3.1).")
    raw = await body_of(request, MAX_FORM_BYTES)
    try:
        return dict(parse_qsl(raw.decode(), max_num_fields=50))
    except ValueError as error:
        raise Problem(400, "The form is not well formed.") from error


def _error(code: DeviceErrorCode, description: str, status: int = 400) -> Response:
    """RFC 6749 §5.2."""
    answer = DeviceErrorAnswer(error=code, error_description=description)
    return JSONResponse(msgspec.to_builtins(answer), status, headers=FORBID_CACHING)


async def list_device_requests(call: Call[NoBody]) -> dict[str, Any]:
    async with call.services.pool.connection() as conn:
        return {"requests": [_shown(row) for row in await device_requests.waiting(conn)]}


async def find_device_request(call: Call[NoBody]) -> DictRow:
    """By the code that a person has typed; guessing is limited."""
    services = call.services
    code = parse_user_code(call.request.path_params["user_code"])
    services.rate_limiter.count_user_code(str(call.signed_in.id), call.address)
    async with services.pool.connection() as conn:
        row = await device_requests.by_user_code(conn, code)
        if row is None:
            await services.rate_limiter.share_wrong_user_code(conn, str(call.signed_in.id), call.address)
    if row is None:
        raise Problem(404, "No agent waits under this code. Codes expire after 15 minutes.")
    services.rate_limiter.refund_user_code(str(call.signed_in.id), call.address)
    return _shown(row)


async def approve_device_request(call: Call[DeviceDecision]) -> DictRow:
    flow = call.services.device_flow
    return _shown(await flow.approve(call.id("request_id"), call.actor, call.body.name, replace=call.body.replace))


async def reject_device_request(call: Call[NoBody]) -> DictRow:
    return _shown(await call.services.device_flow.reject(call.id("request_id"), call.actor))


def _shown(row: DictRow) -> DictRow:
    return {**row, "user_code": format_user_code(row["user_code"])}


ROUTES = [
    _device_route("/v1/device/authorization", authorize_device),
    _device_route("/v1/device/token", device_token),
]

ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/device/requests",
        handler=list_device_requests,
        summary="List agents that wait for approval, newest first",
        answer=DeviceRequests,
        role=Role.ADMIN,
    ),
    Endpoint(
        method="GET",
        path="/v1/device/requests/{user_code:str}",
        handler=find_device_request,
        summary="Find the agent that waits under a code",
        answer=DeviceRequest,
        role=Role.ADMIN,
        problems=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/device/requests/{request_id:uuid}/approve",
        handler=approve_device_request,
        summary="Approve an agent",
        answer=DeviceRequest,
        role=Role.ADMIN,
        body=DeviceDecision,
        problems=(404, 409),
    ),
    Endpoint(
        method="POST",
        path="/v1/device/requests/{request_id:uuid}/refuse",
        handler=reject_device_request,
        summary="Reject an agent",
        answer=DeviceRequest,
        role=Role.ADMIN,
        problems=(404, 409),
    ),
]
