"""The check of every URL: a path and a query are text that the database can hold."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from onsembl.api.http.problems import Problem


class TextUrls:
    """Rejects a URL that contains a NUL, or bytes that are not UTF-8, with 400.

    The texts of bodies have a type each, which forbids NUL (`protocol/field_types.py`).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] == "lifespan" or (_is_text(scope["raw_path"]) and _is_text(scope["query_string"])):
            return await self._app(scope, receive, send)
        problem = Problem(400, "The URL contains a NUL, or bytes that are not UTF-8.")
        if scope["type"] == "websocket":
            return await WebSocket(scope, receive, send).send_denial_response(problem.response())
        return await problem.response()(scope, receive, send)


def _is_text(part: bytes) -> bool:
    if b"%" not in part:
        return part.isascii() and b"\0" not in part
    decoded = unquote_to_bytes(part)
    try:
        decoded.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in decoded
