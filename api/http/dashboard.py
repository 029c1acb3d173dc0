"""The dashboard: static files, the settings for its sign-in, and the security headers of its pages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version as installed_version
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onsembl.api.services import Services

ENCODINGS = {"br": ".br", "gzip": ".gz"}
"""What the dashboard's build writes beside each text file, smallest first, and the ends of those names."""


@cache
def version() -> str:
    """The version of the installed release."""
    return installed_version("onsembl")


def page_routes(dashboard: Path | None) -> list[BaseRoute]:
    """The routes `/` and `/assets`; without a built dashboard, `/` says how to build it."""
    if dashboard is None:
        return [Route("/", _no_page)]

    files = CompressedFiles(directory=dashboard)

    async def index(request: Request) -> Response:
        response = await files.get_response("index.html", request.scope)
        response.headers["Cache-Control"] = "no-cache"
        return response

    return [Route("/", index), Mount("/assets", ImmutableFiles(directory=dashboard / "assets"))]


async def _no_page(_request: Request) -> Response:
    return PlainTextResponse("The dashboard is not built; `onsembl up` builds it.", 503)


async def config(request: Request) -> Response:
    """The settings that the page needs before sign-in."""
    services: Services = request.app.state.services
    hosted = services.settings.hosted
    body = {
        "supabase_url": hosted.url if hosted is not None else None,
        "supabase_key": services.supabase_key,
        "sends_links": hosted is not None or services.settings.auth.mail_server is not None,
        "version": version(),
        "demo": services.settings.demo,
    }
    return JSONResponse(body, headers={"Cache-Control": "no-store"})


class CompressedFiles(StaticFiles):
    """Files that the build has compressed beside them: a browser gets the smallest form that it takes."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        accepted = _accepted_encodings(Headers(scope=scope).get("accept-encoding", ""))
        for encoding, suffix in ENCODINGS.items():
            if encoding in accepted and self.lookup_path(path + suffix)[1] is not None:
                response = await super().get_response(path + suffix, scope)
                response.headers["Content-Encoding"] = encoding
                break
        else:
            response = await super().get_response(path, scope)
        response.headers["Vary"] = "Accept-Encoding"
        return response


def _accepted_encodings(header: str) -> set[str]:
    """The encodings of an Accept-Encoding header that are not excluded by a weight of zero."""
    accepted: set[str] = set()
    for part in header.lower().split(","):
        name, _, parameter = part.partition(";")
        if parameter.strip().removeprefix("q=").strip("0.") or not parameter:
            accepted.add(name.strip())
    return accepted


class ImmutableFiles(CompressedFiles):
    """Files whose names contain a hash of their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def security_headers(connect_to: str | None) -> Mapping[str, str]:
    """The security headers of the page, which may connect to this server and to `connect_to`.

    An answer that names no `Cache-Control` of its own is not stored. Terminals set colours and sizes by inline style;
    scripts are loaded from this server only.
    """
    sources = "'self'"
    if connect_to is not None:
        sources += f" {connect_to} {connect_to.replace('http', 'ws', 1)}"
    return {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
            f"font-src 'self'; connect-src {sources}; base-uri 'none'; form-action 'self'; "
            "frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


class SecurityHeaders:
    """Adds `headers` to every answer that lacks them, also where a WebSocket is refused.

    The answer to an unforeseen error gets them where it is made, which is an outer layer.
    """

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
