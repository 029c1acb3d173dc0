"""Broadcasts by HTTP: a batch, or one broadcast whose topic and event are in the path."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import orjson
import psycopg
from psycopg_pool import PoolTimeout
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from onsembl.protocol.rates import SlidingWindow
from onsembl.realtime.bodies import CLOSE, BodyRejected, read_body
from onsembl.realtime.channels.queries import PolicyQuery
from onsembl.realtime.channels.serializer import BroadcastMessage, Frame, Message
from onsembl.realtime.channels.server import RealtimeServer
from onsembl.realtime.channels.topics import PREFIX
from onsembl.realtime.tokens import BadToken, is_anonymous

Authenticate = Callable[[str], dict[str, Any]]
"""The claims of a key or a token. Raises BadToken."""

MAX_BODY_BYTES = 8_000_000
"""The limit of the web framework of Supabase Realtime."""
_BLANK = ["can't be blank"]
_INVALID = ["is invalid"]
_TOO_LARGE = ["Payload size exceeds tenant limit"]


class BroadcastRoutes:
    """The endpoints. A broadcast goes to all members of its topic; policies decide who may send on a private topic."""

    def __init__(self, server: RealtimeServer, authenticate: Authenticate) -> None:
        self._server = server
        self._authenticate = authenticate
        self._rate = SlidingWindow(server.limits.events_per_second, server.limits.rate_window)

    async def send_batch(self, request: Request) -> Response:
        """POST /api/broadcast with `{"messages": [{"topic", "event", "payload", "private"}, …]}`."""
        claims = self._claims(request)
        if claims is None or not self._may_broadcast(claims):
            return _unauthorized()
        if not _is_json(request):
            return JSONResponse({"error": "Unsupported Media Type"}, 415)
        try:
            body: object = orjson.loads(await read_body(request, MAX_BODY_BYTES))
        except BodyRejected as rejected:
            return _body_rejected(rejected)
        except orjson.JSONDecodeError:
            return JSONResponse({"error": "Bad Request"}, 400)
        field = cast(dict[str, object], body).get("messages") if isinstance(body, dict) else None
        messages = cast(list[object], field) if isinstance(field, list) else []
        if not messages:
            return JSONResponse({"errors": {"messages": _BLANK if field is None else _INVALID}}, 422)
        errors = [self._errors(message) for message in messages]
        if any(errors):
            return JSONResponse({"errors": {"messages": errors}}, 422)
        if not self._rate.add(time.monotonic(), len(messages)):
            return JSONResponse({"message": "Too many messages to broadcast, please reduce the batch size"}, 429)
        allowed: dict[str, bool] = {}
        for message in cast(list[dict[str, Any]], messages):
            topic: str = message["topic"]
            private: bool = message.get("private") or False
            if private and topic not in allowed:
                allowed[topic] = await self._may_write(topic, claims)
            if not private or allowed[topic]:
                payload = {"event": message["event"], "payload": message["payload"], "type": "broadcast"}
                self._send(topic, private, Frame(PREFIX + topic, "broadcast", payload))
        return Response(status_code=202)

    async def send_one(self, request: Request) -> Response:
        """POST /api/broadcast/{topic}/events/{event}: the body is the payload, JSON or bytes."""
        claims = self._claims(request)
        if claims is None or not self._may_broadcast(claims):
            return _unauthorized()
        binary = request.headers.get("content-type", "").startswith("application/octet-stream")
        if not binary and not _is_json(request):
            return JSONResponse({"error": "Unsupported Media Type"}, 415)
        try:
            body = await read_body(request, MAX_BODY_BYTES)
        except BodyRejected as rejected:
            return _body_rejected(rejected)
        if not binary:
            try:
                orjson.loads(body)
            except orjson.JSONDecodeError:
                return JSONResponse({"error": "Bad Request"}, 400)
        if len(body) > self._server.limits.payload_bytes:
            return JSONResponse({"errors": {"payload": _TOO_LARGE}}, 422)
        if not self._rate.add(time.monotonic()):
            return JSONResponse({"message": "You have exceeded your rate limit"}, 429)
        topic, event = request.path_params["topic"], request.path_params["event"]
        private = request.query_params.get("private") == "true"
        if private and not await self._may_write(topic, claims):
            return _unauthorized()
        self._send(topic, private, BroadcastMessage(PREFIX + topic, event, body, not binary))
        return Response(status_code=202)

    def _claims(self, request: Request) -> dict[str, Any] | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        credential = token if scheme.lower() == "bearer" and token else request.headers.get("apikey", "")
        try:
            return self._authenticate(credential)
        except BadToken:
            return None

    def _may_broadcast(self, claims: dict[str, Any]) -> bool:
        """Whether the caller may broadcast on public topics."""
        return self._server.limits.anonymous_broadcast or not is_anonymous(claims)

    def _errors(self, message: object) -> dict[str, list[str]]:
        if not isinstance(message, dict):
            return {"message": _INVALID}
        fields = cast(dict[str, object], message)
        errors: dict[str, list[str]] = {}
        for name in ("topic", "event"):
            value = fields.get(name)
            if value is None or value == "":
                errors[name] = _BLANK
            elif not isinstance(value, str):
                errors[name] = _INVALID
        payload = fields.get("payload")
        if payload is None:
            errors["payload"] = _BLANK
        elif not isinstance(payload, dict) or (size := _json_bytes(cast(dict[str, object], payload))) is None:
            errors["payload"] = _INVALID
        elif size > self._server.limits.payload_bytes:
            errors["payload"] = _TOO_LARGE
        if not isinstance(fields.get("private"), bool | None):
            errors["private"] = _INVALID
        return errors

    async def _may_write(self, topic: str, claims: dict[str, Any]) -> bool:
        query = PolicyQuery(write=frozenset({"broadcast"}))
        role = str(claims.get("role", "anon"))
        try:
            allowed = await self._server.policies(topic, role, orjson.dumps(claims).decode(), query)
        except (psycopg.OperationalError, PoolTimeout):
            return False
        return "broadcast" in allowed.write

    def _send(self, topic: str, private: bool, message: Message) -> None:
        self._server.topics.broadcast((topic, private), message)


def _json_bytes(payload: dict[str, object]) -> int | None:
    """The size of a payload as JSON; None when it is nested too deep to be sent on."""
    try:
        return len(orjson.dumps(payload))
    except orjson.JSONEncodeError:
        return None


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip() == "application/json"


def _body_rejected(rejected: BodyRejected) -> Response:
    return JSONResponse({"error": str(rejected)}, rejected.status, headers=CLOSE)


def _unauthorized() -> Response:
    return JSONResponse({"message": "Unauthorized"}, 401)
