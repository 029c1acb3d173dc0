"""The HTTP endpoints of Supabase Auth, as the stand-in serves them under `/auth/v1`.

Wire shapes follow the public sources of supabase/auth and its clients. It sends no mail and no text messages and knows
no other provider, so what would need those is refused with the code that the real service has for it.
"""

from __future__ import annotations

import psycopg
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onsembl.realtime.auth.accounts import Accounts
from onsembl.realtime.auth.admin import AdminRoutes
from onsembl.realtime.auth.answers import Handler, address_of, json_answer
from onsembl.realtime.auth.errors import (
    API_VERSION_HEADER,
    AuthError,
    auth_error_answer,
    bad_value_answer,
    database_away_answer,
    http_error_answer,
)
from onsembl.realtime.auth.events import OnRefused, ignore_refusals
from onsembl.realtime.auth.gateway import Gateway
from onsembl.realtime.auth.requests import OwnChanges, PasswordGrant, RefreshGrant, SignUp, read_body
from onsembl.realtime.auth.sessions import Sessions
from onsembl.realtime.auth.users import user_json


class AuthRoutes:
    """The endpoints over one project's sessions and accounts."""

    def __init__(
        self, sessions: Sessions, accounts: Accounts, gateway: Gateway, on_refused: OnRefused = ignore_refusals
    ) -> None:
        self._sessions = sessions
        self._accounts = accounts
        self._gateway = gateway
        self._on_refused = on_refused

    def app(self) -> Starlette:
        """The sub-application."""
        table = [
            ("/token", "POST", self.token),
            ("/user", "GET", self.read_user),
            ("/user", "PUT", self.change_user),
            ("/logout", "POST", self.logout),
            ("/signup", "POST", self.signup),
            ("/settings", "GET", self.settings),
            ("/factors", "POST", self.enroll),
        ]
        routes = [Route(path, self._guard(handler), methods=[method]) for path, method, handler in table]
        routes += AdminRoutes(self._accounts, self._gateway).routes()
        # What a browser or a verifier asks for without a key.
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
                AuthError: self._refuse,
                HTTPException: http_error_answer,
                psycopg.DataError: bad_value_answer,
                psycopg.OperationalError: database_away_answer,
            },
        )

    def _guard(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            self._gateway.require_key(request)
            return await handler(request)

        return guarded

    async def _refuse(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, AuthError)
        if error.turns_away and not error.told:
            self._on_refused("sign-in", error.code, address_of(request))
        return await auth_error_answer(request, error)

    # Sessions

    async def token(self, request: Request) -> Response:
        address = address_of(request)
        match request.query_params.get("grant_type"):
            case "password":
                body = await read_body(request, PasswordGrant)
                if body.phone:
                    raise AuthError(422, "phone_provider_disabled", "Phone logins are disabled")
                if not body.email:
                    raise AuthError(400, "validation_failed", "missing email or phone")
                return json_answer(await self._sessions.sign_in(body.email, body.password, address))
            case "refresh_token":
                refresh = await read_body(request, RefreshGrant)
                if not refresh.refresh_token:
                    raise AuthError(400, "validation_failed", "refresh_token required")
                return json_answer(await self._sessions.refresh(refresh.refresh_token, address))
            case _:
                raise AuthError(400, "invalid_credentials", "unsupported_grant_type")

    async def read_user(self, request: Request) -> Response:
        asker = await self._sessions.asker(self._gateway.access_token(request))
        return json_answer(user_json(asker.user))

    async def change_user(self, request: Request) -> Response:
        asker = await self._sessions.asker(self._gateway.access_token(request))
        body = await read_body(request, OwnChanges)
        if body.app_metadata is not None:
            raise AuthError(403, "not_admin", "Updating app_metadata requires admin privileges")
        if body.phone:
            raise AuthError(422, "phone_provider_disabled", "Phone logins are disabled")
        if body.email and body.email.strip().lower() != asker.user["email"]:
            # The real service sends mail to both addresses first.
            raise AuthError(422, "email_address_not_authorized", "Only an admin changes an email address here")
        changed = await self._accounts.change_own(asker, body.password, body.data, address_of(request))
        return json_answer(user_json(changed))

    async def logout(self, request: Request) -> Response:
        token = self._gateway.access_token(request)
        match request.query_params.get("scope") or "global":
            case ("global" | "local" | "others") as scope:
                await self._sessions.sign_out(token, scope, address_of(request))
            case other:
                raise AuthError(400, "validation_failed", f"Unsupported logout scope {other!r}")
        return Response(status_code=204)

    async def signup(self, request: Request) -> Response:
        body = await read_body(request, SignUp)
        if not body.email and not body.phone:
            raise AuthError(422, "anonymous_provider_disabled", "Anonymous sign-ins are disabled")
        if not self._sessions.settings.allow_sign_up:
            raise AuthError(422, "signup_disabled", "Signups not allowed for this instance")
        if not body.email:
            raise AuthError(422, "phone_provider_disabled", "Phone signups are disabled")
        self._sessions.limit_sign_up(address_of(request))
        email, password = body.email, body.password or ""
        user = await self._accounts.sign_up(email, password, body.data or {}, address_of(request))
        return json_answer(await self._sessions.begin(user))

    async def enroll(self, request: Request) -> Response:
        await self._sessions.asker(self._gateway.access_token(request))
        raise AuthError(422, "mfa_totp_enroll_not_enabled", "MFA enroll is disabled for TOTP")

    # What anyone may know

    async def jwks(self, _request: Request) -> Response:
        answer = json_answer(self._sessions.tokens.jwks())
        answer.headers["Cache-Control"] = "public, max-age=600"
        return answer

    async def settings(self, _request: Request) -> Response:
        return json_answer(
            {
                "external": {"email": True, "phone": False, "anonymous_users": False},
                "disable_signup": not self._sessions.settings.allow_sign_up,
                "mailer_autoconfirm": True,
                "phone_autoconfirm": False,
                "sms_provider": "",
                "saml_enabled": False,
                "passkeys_enabled": False,
            }
        )

    async def health(self, _request: Request) -> Response:
        return json_answer(
            {"name": "GoTrue", "version": "stand-in", "description": "Onsembl's stand-in for Supabase Auth"}
        )

    async def authorize(self, request: Request) -> Response:
        provider = request.query_params.get("provider", "")
        reason = "provider is not enabled" if provider else "missing OAuth provider"
        raise AuthError(400, "validation_failed", f"Unsupported provider: {reason}")
