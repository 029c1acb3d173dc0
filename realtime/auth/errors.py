"""The error bodies of Supabase Auth, in both of their shapes."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response

API_VERSION_HEADER = "X-Supabase-Api-Version"
API_VERSION = "2024-01-01"


class AuthError(Exception):
    """A refusal; `code` is one of Supabase's error codes."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


async def auth_error_answer(request: Request, error: Exception) -> Response:
    """The shape that the client's version asks for."""
    assert isinstance(error, AuthError)
    headers = {"x-sb-error-code": error.code}
    if request.headers.get(API_VERSION_HEADER, "") >= API_VERSION:
        body: dict[str, object] = {"code": error.code, "message": error.message}
        headers[API_VERSION_HEADER] = API_VERSION
    else:
        body = {"code": error.status, "error_code": error.code, "msg": error.message}
    return Response(orjson.dumps(body), error.status, headers=headers, media_type="application/json")
