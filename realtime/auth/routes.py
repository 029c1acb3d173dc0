"""The HTTP endpoints of the built-in Supabase Auth, served under `/auth/v1`.

Requests and responses follow the public sources of supabase/auth and its clients. There is no text message and no
external provider, and without a mail server no mail; a request that needs one gets the error code of the real service.
"""

from __future__ import annotations

import psycopg
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from onsembl.realtime.auth.accounts import Accounts
from onsembl.realtime.auth.admin import AdminRoutes
from onsembl.realtime.auth.errors import (
    API_VERSION_HEADER,
    AuthError,
    auth_error_response,
    bad_value_response,
    database_unavailable_response,
    http_error_response,
)
from onsembl.realtime.auth.events import OnRejected, ignore_rejections
from onsembl.realtime.auth.gateway import Gateway
from onsembl.realtime.auth.link_routes import follow_route, link_table
from onsembl.realtime.auth.links import Links
from onsembl.realtime.auth.requests import (
    CodeGrantParams,
    EnrollParams,
    PasswordGrantParams,
    RefreshTokenGrantParams,
    SignupParams,
    UserUpdateParams,
    client_address,
    read_body,
)
from onsembl.realtime.auth.responses import Handler, json_response, user_json
from onsembl.realtime.auth.sessions import Sessions
from onsembl.realtime.auth.unavailable import FACTORS, GRANTS, WRONG_FACTOR, unavailable_routes


class AuthRoutes:
    """The endpoints over the project's sessions and users."""

    def __init__(
        self,
        sessions: Sessions,
        accounts: Accounts,
        gateway: Gateway,
        on_rejected: OnRejected = ignore_rejections,
        links: Links | None = None,
    ) -> None:
        self._sessions = sessions
        self._accounts = accounts
        self._gateway = gateway
        self._on_rejected = on_rejected
        self._links = links

    def app(self) -> Starlette:
        """The application to mount."""
        table = [
            ("/token", "POST", self.token),
            ("/user", "GET", self.read_user),
            ("/user", "PUT", self.change_user),
            ("/logout", "POST", self.logout),
            ("/signup", "POST", self.signup),
            ("/settings", "GET", self.settings),
            ("/factors", "POST", self.enroll),
        ]
        routes: list[BaseRoute] = []
        if self._links is not None:
            table += link_table(self._links)
            routes += [follow_route(self._links)]
        routes += [Route(path, self._guard(handler), methods=[method]) for path, method, handler in table]
        routes += AdminRoutes(self._accounts, self._gateway).routes()
        routes += unavailable_routes(self._gateway, self._sessions.authenticate)
        # Browsers and verifiers call these without a key.
        routes += [
            Route("/.well-known/jwks.json", self.jwks),
            Route("/health", self.health),
            Route("/authorize", self.authorize),
        ]
        cors = Middleware(
            CORSMiddleware,
            allow_origins=["*"],
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=[API_VERSION_HEADER, "x-sb-error-code", "X-Total-Count", "Link", "Retry-After"],
        )
        return Starlette(
            routes=routes,
            middleware=[cors],
            exception_handlers={
                AuthError: self._error_response,
                HTTPException: http_error_response,
                psycopg.DataError: bad_value_response,
                psycopg.OperationalError: database_unavailable_response,
            },
        )

    def _guard(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            self._gateway.require_key(request)
            return await handler(request)

        return guarded

    async def _error_response(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, AuthError)
        if error.is_rejection and not error.audited:
            self._on_rejected("sign-in", error.code, client_address(request))
        return await auth_error_response(request, error)

    # Sessions

    async def token(self, request: Request) -> Response:
        address = client_address(request)
        match request.query_params.get("grant_type"):
            case "password":
                body = await read_body(request, PasswordGrantParams)
                if body.phone:
                    raise AuthError(422, "phone_provider_disabled", "Phone logins are disabled")
                if not body.email:
                    raise AuthError(400, "validation_failed", "missing email or phone")
                return json_response(await self._sessions.sign_in(body.email, body.password, address))
            case "refresh_token":
                refresh = await read_body(request, RefreshTokenGrantParams)
                if not refresh.refresh_token:
                    raise AuthError(400, "validation_failed", "refresh_token required")
                return json_response(await self._sessions.refresh(refresh.refresh_token, address))
            case "pkce" if self._links is not None:
                code = await read_body(request, CodeGrantParams)
                return json_response(await self._links.exchange(code.auth_code, code.code_verifier, address))
            case other:
                raise AuthError(*GRANTS.get(other or "", (400, "invalid_credentials", "unsupported_grant_type")))

    async def read_user(self, request: Request) -> Response:
        caller = await self._sessions.authenticate(self._gateway.access_token(request))
        return json_response(user_json(caller.user))

    async def change_user(self, request: Request) -> Response:
        caller = await self._sessions.authenticate(self._gateway.access_token(request))
        body = await read_body(request, UserUpdateParams)
        if body.app_metadata is not None:
            raise AuthError(403, "not_admin", "Updating app_metadata requires admin privileges")
        if body.phone:
            raise AuthError(422, "phone_provider_disabled", "Phone logins are disabled")
        if body.email and body.email.strip().lower() != caller.user["email"]:
            # The real service sends mail to both addresses first.
            raise AuthError(422, "email_address_not_authorized", "Only an admin attributes an email address here")
        changed = await self._accounts.change_own(caller, body.password, body.data, client_address(request))
        return json_response(user_json(changed))

    async def logout(self, request: Request) -> Response:
        token = self._gateway.access_token(request)
        match request.query_params.get("scope") or "global":
            case ("global" | "local" | "others") as scope:
                await self._sessions.sign_out(token, scope, client_address(request))
            case other:
                raise AuthError(400, "validation_failed", f"Unsupported logout scope {other!r}")
        return Response(status_code=204)

    async def signup(self, request: Request) -> Response:
        body = await read_body(request, SignupParams)
        if not body.email and not body.phone:
            raise AuthError(422, "anonymous_provider_disabled", "Anonymous sign-ins are disabled")
        if not self._sessions.settings.allow_signup:
            raise AuthError(422, "signup_disabled", "Signups not allowed for this instance")
        if not body.email:
            raise AuthError(422, "phone_provider_disabled", "Phone signups are disabled")
        self._sessions.limit_sign_up(client_address(request))
        email, password = body.email, body.password or ""
        user = await self._accounts.sign_up(email, password, body.data or {}, client_address(request))
        return json_response(await self._sessions.create(user))

    async def enroll(self, request: Request) -> Response:
        await self._sessions.authenticate(self._gateway.access_token(request))
        body = await read_body(request, EnrollParams)
        raise AuthError(*FACTORS.get(body.factor_type, WRONG_FACTOR))

    # Public information

    async def jwks(self, _request: Request) -> Response:
        response = json_response(self._sessions.tokens.jwks())
        response.headers["Cache-Control"] = "public, max-age=600"
        return response

    async def settings(self, _request: Request) -> Response:
        return json_response(
            {
                "external": {"email": True, "phone": False, "anonymous_users": False},
                "disable_signup": not self._sessions.settings.allow_signup,
                "mailer_autoconfirm": True,
                "phone_autoconfirm": False,
                "sms_provider": "",
                "saml_enabled": False,
                "passkeys_enabled": False,
            }
        )

    async def health(self, _request: Request) -> Response:
        return json_response(
            {"name": "GoTrue", "version": "built-in", "description": "Onsembl's built-in Supabase Auth"}
        )

    async def authorize(self, request: Request) -> Response:
        provider = request.query_params.get("provider", "")
        reason = "provider is not enabled" if provider else "missing OAuth provider"
        raise AuthError(400, "validation_failed", f"Unsupported provider: {reason}")
