"""Where a request comes from, for the audit log and for limits."""

from __future__ import annotations

from starlette.requests import HTTPConnection


def client_address(connection: HTTPConnection) -> str:
    """The peer's network address, without its port; empty when there is none (a Unix socket)."""
    return connection.client.host if connection.client is not None else ""
