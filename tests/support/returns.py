"""How a Supabase project leads browsers back to the page: from an OAuth provider, and from links by e-mail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PROVIDER = """<!doctype html><title>Provider</title>
<a href="/auth/v1/callback?{allow}">Allow</a> <a href="/auth/v1/callback?{deny}">Deny</a>"""
DENIED = {
    "error": "access_denied",
    "error_code": "user_denied",
    "error_description": "The user has denied access",
}


class Returns:
    """A project's app with an OAuth provider, at which people allow or deny. Links and the provider lead to the page
    that the browser named; `add_code` makes the code for a challenge."""

    def __init__(self, app: ASGIApp, add_code: Callable[[str], str]) -> None:
        self._app = app
        self._add_code = add_code
        self._page = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path == "/auth/v1/authorize":
            await self._provider(Request(scope))(scope, receive, send)
        elif path == "/auth/v1/callback":
            await (await self._callback(Request(scope)))(scope, receive, send)
        elif path in ("/auth/v1/otp", "/auth/v1/recover") and scope["method"] == "POST":
            self._page = Request(scope).query_params["redirect_to"]
            await self._app(scope, receive, send)
        elif path == "/auth/v1/verify" and scope["method"] == "GET":
            await self._app(scope, receive, self._leading_back(send))
        else:
            await self._app(scope, receive, send)

    def _provider(self, request: Request) -> HTMLResponse:
        query = request.query_params
        assert query["code_challenge_method"] == "s256"
        allow = urlencode({"page": query["redirect_to"], "challenge": query["code_challenge"]})
        return HTMLResponse(PROVIDER.format(allow=allow, deny=urlencode({"page": query["redirect_to"]})))

    async def _callback(self, request: Request) -> RedirectResponse:
        page, challenge = request.query_params["page"], request.query_params.get("challenge")
        separator = "&" if urlsplit(page).query else "?"
        if challenge is None:
            details = urlencode(DENIED)
            return RedirectResponse(f"{page}{separator}{details}#{details}", 302)
        code = await asyncio.to_thread(self._add_code, challenge)
        return RedirectResponse(f"{page}{separator}code={code}", 302)

    def _leading_back(self, send: Send) -> Send:
        async def leading_back(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, self._on_page(value.decode()).encode() if name == b"location" else value)
                    for name, value in message["headers"]
                ]
            await send(message)

        return leading_back

    def _on_page(self, address: str) -> str:
        page, leads = urlsplit(self._page), urlsplit(address)
        return leads._replace(scheme=page.scheme, netloc=page.netloc).geturl()
