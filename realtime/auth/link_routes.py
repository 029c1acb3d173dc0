"""The endpoints of links by e-mail, for a project with a mail server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from onsembl.realtime.auth.errors import AuthError
from onsembl.realtime.auth.links import Links, challenge_of
from onsembl.realtime.auth.requests import LinkParams, VerifyParams, client_address, read_body
from onsembl.realtime.auth.responses import json_response
from onsembl.sql.auth_one_time_tokens import LinkKind

MAX_PARAMETER = 4096


def link_table(links: Links) -> list[tuple[str, str, Callable[[Request], Awaitable[Response]]]]:
    """The endpoints that need a project key: path, method and handler."""

    def requested(kind: LinkKind) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            body = await read_body(request, LinkParams)
            if body.phone:
                raise AuthError(422, "phone_provider_disabled", "Phone logins are disabled")
            challenge = challenge_of(body.code_challenge, body.code_challenge_method)
            links.request(body.email, kind, _parameter(request, "redirect_to"), challenge, client_address(request))
            return json_response({})

        return handle

    async def verify(request: Request) -> Response:
        body = await read_body(request, VerifyParams)
        return json_response(await links.verify(body.token_hash, body.type, client_address(request)))

    return [
        ("/otp", "POST", requested("magiclink")),
        ("/magiclink", "POST", requested("magiclink")),
        ("/recover", "POST", requested("recovery")),
        ("/verify", "POST", verify),
    ]


def follow_route(links: Links) -> BaseRoute:
    """The address that a link has: browsers call it without a key."""

    async def follow(request: Request) -> Response:
        if request.method == "HEAD":  # a preview looks at the address, nobody follows it
            return Response(headers={"Cache-Control": "no-store"})
        token, kind, redirect_to = (_parameter(request, name) for name in ("token", "type", "redirect_to"))
        address = await links.follow(token, kind, redirect_to, client_address(request))
        return RedirectResponse(address, 303, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})

    return Route("/verify", follow, methods=["GET"])


def _parameter(request: Request, name: str) -> str:
    text = request.query_params.get(name, "")
    if len(text) > MAX_PARAMETER:
        raise AuthError(400, "validation_failed", f"{name} is too long")
    return text
