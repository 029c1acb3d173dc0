"""The error bodies of Supabase Auth, in both of their forms.

A client that names an API version of 2024 or later in `X-Supabase-Api-Version` gets `{"code", "message"}` and the
version echoed; other clients get `{"code": <status>, "error_code", "msg"}`. A rejection is always a 4xx. The clients
retry after a 5xx, so only an unavailable database gets one.
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

REJECTION_CODES = (
    "invalid_credentials",
    "user_banned",
    "email_not_confirmed",
    "refresh_token_not_found",
    "refresh_token_already_used",
    "session_expired",
)
"""Codes with status 400 that reject the caller and not the contents of the request."""


class AuthError(Exception):
    """An error answer. `code` is one of Supabase Auth's error codes, `extra` are further members of the body.

    `audited` is true once the audit log has an event for the error.
    """

    def __init__(self, status: int, code: str, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.extra = extra
        self.headers: dict[str, str] = {}
        self.audited = False

    @property
    def is_rejection(self) -> bool:
        """Whether the caller is rejected, and not the contents of the request."""
        return self.status in (401, 403, 429) or self.code in REJECTION_CODES


class TooManyAttempts(AuthError):
    """Too many sign-ins failed; `Retry-After` gives the seconds until the next is allowed."""

    def __init__(self, wait: float) -> None:
        super().__init__(429, "over_request_rate_limit", "Request rate limit reached")
        self.headers["Retry-After"] = str(int(wait) + 1)


async def auth_error_response(request: Request, error: Exception) -> Response:
    """The error in the form that the client's API version expects."""
    assert isinstance(error, AuthError)
    headers = {**error.headers, "x-sb-error-code": error.code, "Cache-Control": "no-store"}
    if _wants_new_form(request):
        body: dict[str, object] = {"code": error.code, "message": error.message}
        headers[API_VERSION_HEADER] = API_VERSION.isoformat()
    else:
        body = {"code": error.status, "error_code": error.code, "msg": error.message}
    return Response(orjson.dumps({**body, **error.extra}), error.status, headers=headers, media_type="application/json")


async def http_error_response(request: Request, error: Exception) -> Response:
    """The path does not exist, or not with this method."""
    assert isinstance(error, HTTPException)
    auth_error = AuthError(error.status_code, "not_found" if error.status_code == 404 else "unknown", error.detail)
    auth_error.headers.update(error.headers or {})
    return await auth_error_response(request, auth_error)


async def bad_value_response(request: Request, error: Exception) -> Response:
    """Postgres cannot store a value: a text with a NUL, a time out of range."""
    return await auth_error_response(request, AuthError(400, "validation_failed", "A value is out of range"))


async def database_unavailable_response(request: Request, error: Exception) -> Response:
    """The database does not respond. The clients keep their session and retry."""
    assert isinstance(error, psycopg.OperationalError)
    logger.warning("The database is not responding: %s", error, extra={"action": "auth_database_away"})
    return await auth_error_response(request, AuthError(503, "unexpected_failure", "The database is not responding"))


def _wants_new_form(request: Request) -> bool:
    try:
        return date.fromisoformat(request.headers.get(API_VERSION_HEADER, "")) >= API_VERSION
    except ValueError:
        return False
