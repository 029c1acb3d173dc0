"""The client's address, for the audit log and for rate limits.

Behind a proxy, the peer is the proxy, and a header has the client's address. The header is used only when the settings
name it, since any client can send one.
"""

from __future__ import annotations

from ipaddress import ip_address

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

FORWARDED_FOR = "X-Forwarded-For"
"""The header in which one process of ours passes a client's address to another, unless the settings name one."""


def client_address(connection: HTTPConnection) -> str:
    """The client's network address, without its port; empty when there is none (a Unix socket)."""
    return connection.client.host if connection.client is not None else ""


class ClientAddress:
    """Middleware that replaces the client's address with the address in `header`.

    The proxy must overwrite that header, as Fly does with `Fly-Client-IP`. In a list, as in `X-Forwarded-For`, the last
    address counts, which the proxy itself has seen. Without a valid address, the peer's address stays.
    """

    def __init__(self, app: ASGIApp, header: str) -> None:
        self._app = app
        self._header = header.lower().encode("latin-1")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] in ("http", "websocket") and (address := self._address(scope)) is not None:
            scope["client"] = (address, 0)
        await self._app(scope, receive, send)

    def _address(self, scope: Scope) -> str | None:
        values: list[bytes] = [value for name, value in scope["headers"] if name == self._header]
        if not values:
            return None
        try:
            return str(ip_address(values[-1].decode("latin-1").rpartition(",")[2].strip()))
        except ValueError:
            return None
