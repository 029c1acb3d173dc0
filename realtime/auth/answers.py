"""What every endpoint of the Auth stand-in does with a request and its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]


def json_answer(content: object) -> Response:
    """JSON that nobody keeps."""
    return Response(orjson.dumps(content), media_type="application/json", headers={"Cache-Control": "no-store"})


def address_of(request: Request) -> str:
    """The peer's network address, empty when there is none (a Unix socket)."""
    return request.client.host if request.client is not None else ""
