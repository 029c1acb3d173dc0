"""The check of `Host`: under which names a browser gets the page, its settings and the metrics.

A page of another site can point its own name at this server's address (DNS rebinding). For the browser, both are then
one site, and the page could read whatever this server shows without a token. The name in `Host` tells them apart. An IP
address is nobody's name; probes use it.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from onsembl.api.http.client_address import client_address
from onsembl.api.http.problems import Problem
from onsembl.api.services import Services

OPEN_PATHS = ("/", "/config.json", "/metrics")
"""The paths that answer without a token, beside the page's files. Metrics with a token need no check."""


class KnownHosts:
    """Rejects requests for the page and the metrics under a name that is not this server's, with 421."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] != "http" or not (scope["path"] in OPEN_PATHS or scope["path"].startswith("/assets/")):
            return await self._app(scope, receive, send)
        connection = HTTPConnection(scope)
        services: Services = scope["app"].state.services
        settings = services.settings
        host = connection.headers.get("host")
        guarded = scope["path"] == "/metrics" and settings.metrics_token is not None
        if guarded or host is None or is_known(host, settings.public_url, settings.allowed_hosts):
            return await self._app(scope, receive, send)
        problem = Problem(421, "This server does not know the name in Host; --allowed-host adds a name.")
        services.rejections.record("page", problem.detail, client_address(connection))
        return await problem.response()(scope, receive, send)


def is_known(host: str, public_url: str, allowed: Collection[str]) -> bool:
    """Whether `host`, as in a `Host` header, is an IP address, localhost, the public URL's name or an allowed name."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    name = name.rstrip(".")
    if name == "localhost" or name.endswith(".localhost") or name == urlsplit(public_url).hostname:
        return True
    if name in {other.lower().rstrip(".") for other in allowed}:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
