"""The error bodies of Supabase Auth, in both of their shapes.

A client that names an API version of 2024 or later in `X-Supabase-Api-Version` gets `{"code", "message"}` and the
version echoed; others get `{"code": <status>, "error_code", "msg"}`. A refusal is always a 4xx: a 5xx makes the clients
try again, so it is kept for the database being away.
"""

from __future__ import annotations

import logging
from datetime import date
from typing import Any

import orjson
import psycopg
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

logger = logging.getLogger(__name__)

API_VERSION_HEADER = "X-Supabase-Api-Version"
API_VERSION = date(2024, 1, 1)


REFUSALS = (
    "invalid_credentials",
    "user_banned",
    "email_not_confirmed",
    "refresh_token_not_found",
    "refresh_token_already_used",
    "session_expired",
)
"""Codes that turn somebody away with status 400."""


class AuthError(Exception):
    """A refusal; `code` is one of Supabase's error codes, `extra` more members of the body. `told`: the audit log has
    it already."""

    def __init__(self, status: int, code: str, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.extra = extra
        self.headers: dict[str, str] = {}
        self.told = False

    @property
    def turns_away(self) -> bool:
        """Whether it is of who asks, and not of what is asked."""
        return self.status in (401, 403, 429) or self.code in REFUSALS


class TooManyAttempts(AuthError):
    """Too many sign-ins have failed; the header says in how many seconds the next may come."""

    def __init__(self, wait: float) -> None:
        super().__init__(429, "over_request_rate_limit", "Request rate limit reached")
        self.headers["Retry-After"] = str(int(wait) + 1)


async def auth_error_answer(request: Request, error: Exception) -> Response:
    """The shape that the client's version asks for."""
    assert isinstance(error, AuthError)
    headers = {**error.headers, "x-sb-error-code": error.code, "Cache-Control": "no-store"}
    if _wants_new_shape(request):
        body: dict[str, object] = {"code": error.code, "message": error.message}
        headers[API_VERSION_HEADER] = API_VERSION.isoformat()
    else:
        body = {"code": error.status, "error_code": error.code, "msg": error.message}
    return Response(orjson.dumps({**body, **error.extra}), error.status, headers=headers, media_type="application/json")


async def http_error_answer(request: Request, error: Exception) -> Response:
    """No such path, or not with this method."""
    assert isinstance(error, HTTPException)
    refusal = AuthError(error.status_code, "not_found" if error.status_code == 404 else "unknown", error.detail)
    refusal.headers.update(error.headers or {})
    return await auth_error_answer(request, refusal)


async def bad_value_answer(request: Request, error: Exception) -> Response:
    """What Postgres cannot keep: a NUL in a text, a time out of range."""
    return await auth_error_answer(request, AuthError(400, "validation_failed", "A value is out of range"))


async def database_away_answer(request: Request, error: Exception) -> Response:
    """The clients keep their session and try again."""
    assert isinstance(error, psycopg.OperationalError)
    logger.warning("The database does not answer: %s", error, extra={"action": "auth_database_away"})
    return await auth_error_answer(request, AuthError(503, "unexpected_failure", "The database does not answer"))


def _wants_new_shape(request: Request) -> bool:
    try:
        return date.fromisoformat(request.headers.get(API_VERSION_HEADER, "")) >= API_VERSION
    except ValueError:
        return False
