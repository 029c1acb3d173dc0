"""The second factors of a Supabase project: authenticator apps, and sessions that were begun with one (`aal2`)."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import jwt
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from onsembl.realtime.builtin import BuiltinSupabase

CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "*"}
WINDOW_SECONDS = 30


@dataclass(frozen=True)
class Totp:
    """The secret of an authenticator app (RFC 6238)."""

    id: str = field(default_factory=lambda: str(uuid4()))
    secret: bytes = field(default_factory=lambda: os.urandom(20))

    def code(self, windows: int = 0) -> str:
        """The code that the app shows, or showed some windows of 30 s before."""
        counter = struct.pack(">Q", int(time.time()) // WINDOW_SECONDS - windows)
        digest = hmac.digest(self.secret, counter, hashlib.sha1)
        offset = digest[-1] & 15
        number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
        return f"{number % 1_000_000:06}"


class SecondFactors:
    """The verified factors by the ids of their users."""

    def __init__(self) -> None:
        self._factors: dict[str, Totp] = {}
        self._strong: set[str] = set()
        self._sessions: dict[str, dict[str, Any]] = {}

    def add(self, user_id: str) -> Totp:
        """Add a factor of the user."""
        self._factors[user_id] = factor = Totp()
        return factor

    def serve(self, app: ASGIApp, builtin: BuiltinSupabase) -> ASGIApp:
        """The project's app, whose Auth has these factors."""

        async def front(scope: Scope, receive: Receive, send: Send) -> None:
            path: str = scope.get("path", "")
            call = (scope.get("method"), path.removeprefix("/auth/v1/").split("/"))
            match call:
                case ("POST", ["token"]):
                    await changed(app, lambda body: self._session(builtin, body))(scope, receive, send)
                case ("GET", ["user"]):
                    await changed(app, self._user)(scope, receive, send)
                case ("PUT", ["user"]) if self._is_weak(Request(scope)):
                    answer = _refusal(Request(scope), 401, "insufficient_aal", "AAL2 session is required")
                    await answer(scope, receive, send)
                case ("POST", ["factors", _, "challenge"]):
                    answer = {"id": str(uuid4()), "type": "totp", "expires_at": int(time.time()) + 300}
                    await JSONResponse(answer, headers=CORS)(scope, receive, send)
                case ("POST", ["factors", factor_id, "verify"]):
                    answer = await self._verify(builtin, factor_id, Request(scope, receive))
                    await answer(scope, receive, send)
                case _:
                    await app(scope, receive, send)

        return front

    def _is_weak(self, request: Request) -> bool:
        claims = _claims(request.headers["authorization"].removeprefix("Bearer "))
        return claims["sub"] in self._factors and claims["aal"] != "aal2"

    def _session(self, builtin: BuiltinSupabase, body: dict[str, Any]) -> dict[str, Any]:
        claims = _claims(body["access_token"])
        session_id = claims["session_id"]
        if session_id in self._strong:
            body["access_token"], body["expires_at"] = builtin._tokens.issue({**claims, "aal": "aal2"})
        self._sessions[session_id] = body = {**body, "user": self._user(body["user"])}
        return body

    def _user(self, user: dict[str, Any]) -> dict[str, Any]:
        factor = self._factors.get(user["id"])
        if factor is None:
            return user
        return {**user, "factors": [{"id": factor.id, "factor_type": "totp", "status": "verified"}]}

    async def _verify(self, builtin: BuiltinSupabase, factor_id: str, request: Request) -> JSONResponse:
        claims = _claims(request.headers["authorization"].removeprefix("Bearer "))
        factor = self._factors.get(claims["sub"])
        if factor is None or factor.id != factor_id:
            return _refusal(request, 404, "mfa_factor_not_found", "Factor not found")
        if (await request.json())["code"] not in (factor.code(), factor.code(1)):
            return _refusal(request, 422, "mfa_verification_failed", "Invalid TOTP code entered")
        self._strong.add(claims["session_id"])
        return JSONResponse(self._session(builtin, self._sessions[claims["session_id"]]), headers=CORS)


def _claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def _refusal(request: Request, status: int, code: str, message: str) -> JSONResponse:
    """The answer of Supabase Auth, in the form of the client's version."""
    version = request.headers.get("x-supabase-api-version")
    if version is None:
        return JSONResponse({"code": status, "error_code": code, "msg": message}, status, CORS)
    headers = {**CORS, "x-supabase-api-version": version, "x-sb-error-code": code}
    return JSONResponse({"code": code, "message": message}, status, headers)


def changed(app: ASGIApp, change: Callable[[dict[str, Any]], dict[str, Any]]) -> ASGIApp:
    """The app, with its successful answers of JSON changed."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        messages: list[Any] = []

        async def keep(message: Any) -> None:
            messages.append(message)

        await app(scope, receive, keep)
        start, *bodies = messages
        if start["status"] != 200:
            for message in messages:
                await send(message)
            return
        body = change(json.loads(b"".join(part["body"] for part in bodies)))
        await JSONResponse(body, headers=CORS)(scope, receive, send)

    return call
