"""The JSON responses of the built-in Supabase Auth."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]


def json_response(content: object) -> Response:
    """A response that no cache may store: it may hold a token."""
    return Response(orjson.dumps(content), media_type="application/json", headers={"Cache-Control": "no-store"})
