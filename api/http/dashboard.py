"""The dashboard: static files, the settings for its sign-in, and the security headers of its pages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version as installed_version
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onsembl.api.services import Services


@cache
def version() -> str:
    """The version of the installed release."""
    return installed_version("onsembl")


def page_routes(dashboard: Path | None) -> list[BaseRoute]:
    """The routes `/` and `/assets`; without a built dashboard, `/` says how to build it."""
    if dashboard is None:
        return [Route("/", _no_page)]

    async def index(_request: Request) -> Response:
        return FileResponse(dashboard / "index.html", headers={"Cache-Control": "no-cache"})

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
        "version": version(),
    }
    return JSONResponse(body, headers={"Cache-Control": "no-store"})


class ImmutableFiles(StaticFiles):
    """Files whose names contain a hash of their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def security_headers(connect_to: str | None) -> Mapping[str, str]:
    """The security headers of the page, which may connect to this server and to `connect_to`.

    Terminals set colours and sizes by inline style; scripts are loaded from this server only.
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
    }


class SecurityHeaders:
    """Adds `headers` to every answer, except to that of an unforeseen error, which an outer layer makes."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
