"""The HTTP endpoints of Supabase Auth, as the stand-in serves them under `/auth/v1`.

Wire shapes follow the public sources of supabase/auth and its clients.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
import orjson
from msgspec import Meta
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onsembl.realtime.auth.errors import API_VERSION_HEADER, AuthError, auth_error_answer
from onsembl.realtime.auth.passwords import hash_password
from onsembl.realtime.auth.service import AuthService, check_password, user_json
from onsembl.realtime.keys import ProjectKeys
from onsembl.realtime.tokens import BadToken
from onsembl.sql import auth_users as users

MAX_BODY_BYTES = 64 * 1024
B = TypeVar("B")

Email = Annotated[str, Meta(min_length=3, max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]
Password = Annotated[str, Meta(max_length=1024)]


class PasswordGrant(msgspec.Struct, frozen=True):
    email: str
    password: Password


class RefreshGrant(msgspec.Struct, frozen=True):
    refresh_token: str


class UserUpdate(msgspec.Struct, frozen=True, kw_only=True):
    data: dict[str, Any] | None = None
    password: Password | None = None


class NewUser(msgspec.Struct, frozen=True, kw_only=True):
    email: Email
    password: Password
    app_metadata: dict[str, Any] = {}
    user_metadata: dict[str, Any] = {}


class AdminUpdate(msgspec.Struct, frozen=True, kw_only=True):
    email: Email | None = None
    password: Password | None = None
    app_metadata: dict[str, Any] | None = None
    user_metadata: dict[str, Any] | None = None
    ban_duration: str | None = None


class AuthRoutes:
    """The endpoints over one service."""

    def __init__(self, service: AuthService, keys: ProjectKeys) -> None:
        self._service = service
        self._keys = keys

    def app(self) -> Starlette:
        """The sub-application."""
        guarded = [
            ("/token", "POST", self.token),
            ("/user", "GET", self.read_user),
            ("/user", "PUT", self.update_user),
            ("/logout", "POST", self.logout),
            ("/signup", "POST", self.signup),
            ("/settings", "GET", self.settings),
            ("/admin/users", "GET", self.list_users),
            ("/admin/users", "POST", self.create_user),
            ("/admin/users/{user_id:uuid}", "GET", self.admin_read),
            ("/admin/users/{user_id:uuid}", "PUT", self.admin_update),
            ("/admin/users/{user_id:uuid}", "DELETE", self.admin_delete),
        ]
        routes = [Route(path, self._guard(handler), methods=[method]) for path, method, handler in guarded]
        routes.append(Route("/.well-known/jwks.json", self.jwks))
        routes.append(Route("/health", self.health))
        cors = Middleware(
            CORSMiddleware,
            allow_origins=["*"],
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=[API_VERSION_HEADER, "x-sb-error-code", "x-total-count"],
        )
        return Starlette(routes=routes, middleware=[cors], exception_handlers={AuthError: auth_error_answer})

    def _guard(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """As the gateway before the real service does: no call without one of the project's keys."""

        async def guarded(request: Request) -> Response:
            key = request.headers.get("apikey", "")
            if self._keys.role_of(key) is None:
                raise AuthError(
                    401, "no_authorization", "No API key found in request" if not key else "Invalid API key"
                )
            return await handler(request)

        return guarded

    # Sessions

    async def token(self, request: Request) -> Response:
        grant = request.query_params.get("grant_type")
        if grant == "password":
            body = await _body(request, PasswordGrant)
            return _json(await self._service.sign_in(body.email, body.password, _address(request)))
        if grant == "refresh_token":
            refresh = await _body(request, RefreshGrant)
            return _json(await self._service.refresh(refresh.refresh_token, _address(request)))
        raise AuthError(400, "unsupported_grant_type", "unsupported_grant_type")

    async def read_user(self, request: Request) -> Response:
        user, _ = await self._service.user_of(self._bearer(request))
        return _json(user_json(user))

    async def update_user(self, request: Request) -> Response:
        user, _ = await self._service.user_of(self._bearer(request))
        body = await _body(request, UserUpdate)
        password_hash = None
        if body.password is not None:
            check_password(body.password)
            password_hash = await hash_password(body.password)
        async with self._service.pool.connection() as conn:
            changed = await users.update(conn, user["id"], password_hash=password_hash, user_metadata=body.data)
        assert changed is not None
        return _json(user_json(changed))

    async def logout(self, request: Request) -> Response:
        scope = request.query_params.get("scope", "global")
        if scope not in ("global", "local", "others"):
            raise AuthError(400, "validation_failed", f"Unsupported logout scope {scope!r}")
        await self._service.sign_out(self._bearer(request), scope, _address(request))
        return Response(status_code=204)

    async def signup(self, _request: Request) -> Response:
        raise AuthError(422, "signup_disabled", "Signups not allowed for this instance")

    # What anyone may know

    async def jwks(self, _request: Request) -> Response:
        response = _json(self._service.tokens.jwks())
        response.headers["Cache-Control"] = "public, max-age=600"
        return response

    async def settings(self, _request: Request) -> Response:
        return _json({"external": {"email": True}, "disable_signup": True, "mailer_autoconfirm": True})

    async def health(self, _request: Request) -> Response:
        return _json({"name": "GoTrue", "description": "A stand-in for Supabase Auth"})

    # Administration

    async def list_users(self, request: Request) -> Response:
        self._require_admin(request)
        page = max(1, int(request.query_params.get("page") or 1))
        size = min(1000, max(1, int(request.query_params.get("per_page") or 50)))
        async with self._service.pool.connection() as conn:
            rows = await users.list_users(conn, size, (page - 1) * size)
        return _json({"users": [user_json(row) for row in rows], "aud": "authenticated"})

    async def create_user(self, request: Request) -> Response:
        self._require_admin(request)
        body = await _body(request, NewUser)
        async with self._service.pool.connection() as conn:
            user = await self._service.create_user(
                conn, body.email, body.password, body.app_metadata, body.user_metadata
            )
        return _json(user_json(user))

    async def admin_read(self, request: Request) -> Response:
        self._require_admin(request)
        async with self._service.pool.connection() as conn:
            user = await users.get(conn, _user_id(request))
        return _json(user_json(_found(user)))

    async def admin_update(self, request: Request) -> Response:
        self._require_admin(request)
        body = await _body(request, AdminUpdate)
        password_hash = await hash_password(body.password) if body.password is not None else None
        async with self._service.pool.connection() as conn:
            user = await users.update(
                conn,
                _user_id(request),
                email=body.email,
                password_hash=password_hash,
                app_metadata=body.app_metadata,
                user_metadata=body.user_metadata,
            )
            if body.ban_duration is not None:
                user = await users.ban(conn, _user_id(request), _ban_seconds(body.ban_duration))
        return _json(user_json(_found(user)))

    async def admin_delete(self, request: Request) -> Response:
        self._require_admin(request)
        async with self._service.pool.connection() as conn:
            if not await users.delete(conn, _user_id(request)):
                raise AuthError(404, "user_not_found", "User not found")
        return _json({})

    def _require_admin(self, request: Request) -> None:
        token = self._bearer(request)
        if self._keys.role_of(token) == "service_role":
            return
        try:
            if self._service.tokens.verify(token).get("role") == "service_role":
                return
        except BadToken as error:
            raise AuthError(403, "bad_jwt", "invalid JWT: unable to parse or verify signature") from error
        raise AuthError(403, "not_admin", "User not allowed")

    def _bearer(self, request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise AuthError(401, "no_authorization", "This endpoint requires a valid Bearer token")
        return token


async def _body(request: Request, model: type[B]) -> B:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise AuthError(413, "request_too_large", "The body is too large")
    try:
        return msgspec.json.decode(bytes(raw) or b"{}", type=model)
    except msgspec.MsgspecError as error:
        raise AuthError(400, "validation_failed", str(error)) from error


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), media_type="application/json", headers={"Cache-Control": "no-store"})


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _user_id(request: Request) -> UUID:
    return request.path_params["user_id"]


def _found(user: dict[str, Any] | None) -> dict[str, Any]:
    if user is None:
        raise AuthError(404, "user_not_found", "User not found")
    return user


def _ban_seconds(duration: str) -> float | None:
    """Go's notation, as the client sends it: `24h`, `100m`, `none`."""
    if duration == "none":
        return None
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    try:
        return float(duration[:-1]) * units[duration[-1]]
    except (KeyError, ValueError, IndexError) as error:
        raise AuthError(400, "validation_failed", f"invalid format for ban duration: {duration!r}") from error
