"""Which pages may open a browser's socket or change state here.

A browser says in `Origin` which page asks (RFC 6455 §10.2). A page of another site could otherwise use the socket of
a server that the person's browser can reach. Programs send no `Origin`; their token is what counts.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection


def origin_allowed(connection: HTTPConnection, public_url: str, allowed: tuple[str, ...]) -> bool:
    """Whether the request's page is our own, or one that the settings name."""
    origin = connection.headers.get("origin")
    if origin is None:
        return True
    if origin == _origin_of(public_url) or origin in allowed:
        return True
    # The page was served by this very host under another of its names.
    return urlsplit(origin).netloc == connection.headers.get("host")


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
