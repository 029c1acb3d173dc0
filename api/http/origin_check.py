"""The check of `Origin`: which web pages may open a WebSocket or change state, on every listening address.

A browser names the requesting page in `Origin` (RFC 6455 §10.2). Without this check, a page of another site could use a
server that the person's browser can reach. Programs send no `Origin`; they are authorized by their token.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from onsembl.api.http.client_address import client_address
from onsembl.api.http.host_check import is_known
from onsembl.api.http.problems import Problem
from onsembl.api.services import Services

READING = ("GET", "HEAD")


class OwnPages:
    """Rejects requests from pages of other sites, except reads, with 403 and before any other check."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        kind = scope["type"]
        if kind not in ("http", "websocket") or (kind == "http" and scope["method"] in READING):
            return await self._app(scope, receive, send)
        connection = HTTPConnection(scope)
        services: Services = scope["app"].state.services
        settings = services.settings
        if origin_allowed(connection, settings.public_url, settings.allowed_origins, settings.allowed_hosts):
            return await self._app(scope, receive, send)
        problem = Problem(403, "Requests from pages of other sites are not allowed.")
        services.rejections.record("page", problem.detail, client_address(connection))
        if kind == "websocket":
            return await WebSocket(scope, receive, send).send_denial_response(problem.response())
        return await problem.response()(scope, receive, send)


def origin_allowed(
    connection: HTTPConnection, public_url: str, allowed: tuple[str, ...], allowed_hosts: tuple[str, ...] = ()
) -> bool:
    """Whether the requesting page belongs to this server, or to an origin that the settings allow."""
    origin = connection.headers.get("origin")
    if origin is None:
        return True
    if origin == _origin_of(public_url) or origin in allowed:
        return True
    # This host served the page under another of its names.
    host = connection.headers.get("host", "")
    return origin.partition("://")[2] == host and is_known(host, public_url, allowed_hosts)


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
