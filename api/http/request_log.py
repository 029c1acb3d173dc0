"""Gives every request an id, which its answer names, and logs the request."""

from __future__ import annotations

import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onsembl.api.http.client_address import client_address
from onsembl.protocol import request_ids

logger = logging.getLogger(__name__)

HEADER = "X-Request-ID"
OFTEN_ASKED = ("/metrics", "/healthz", "/readyz", "/v1/statistics")
"""The paths that programs request every few seconds; they are logged at the level debug only."""
SHOWN_OF_PATH = 500


class RequestLog:
    """Sets the request id, the client's if it is well-formed, else a new one, and logs the answer.

    The id stays set after the request: each request has a task of its own, and the server logs an error after the
    answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            request_ids.set_current(None)  # a WebSocket is not a request: each of its operations has an id
            await self._app(scope, receive, send)
            return
        request_id = _given(scope) or request_ids.new()
        request_ids.set_current(request_id)
        status: int | None = None
        began = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            status = 500  # an outer layer sends this answer
            raise
        finally:
            _log(scope, status, time.perf_counter() - began)


def _given(scope: Scope) -> str | None:
    ids = Headers(scope=scope).getlist(HEADER)
    return ids[0] if len(ids) == 1 and request_ids.well_formed(ids[0]) else None


def _log(scope: Scope, status: int | None, seconds: float) -> None:
    level = logging.DEBUG if scope["path"] in OFTEN_ASKED else logging.INFO
    if not logger.isEnabledFor(level):
        return
    # The path as sent, so without control characters; without the query, which may contain secrets.
    path = scope["raw_path"].decode("ascii", "backslashreplace")[:SHOWN_OF_PATH]
    fields = {
        "action": "request",
        "method": scope["method"],
        "path": path,
        "status": status,
        "duration_ms": round(seconds * 1000, 1),
        "client": client_address(HTTPConnection(scope)),
    }
    logger.log(
        level,
        "%s %s %s in %.1f ms",
        scope["method"],
        path,
        status if status is not None else "no answer",
        seconds * 1000,
        extra=fields,
    )
