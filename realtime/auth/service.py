"""What the Auth stand-in does: sign in, refresh, sign out, look after users."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.realtime.auth.attempts import Attempts
from onsembl.realtime.auth.errors import AuthError
from onsembl.realtime.auth.passwords import hash_password, needs_rehash, password_fits
from onsembl.realtime.auth.refresh_tokens import RefreshToken
from onsembl.realtime.tokens import AccessTokens, BadToken
from onsembl.sql import auth_users as users
from onsembl.sql.database import Connection, Pool

REUSE_SECONDS = 10.0
"""How long the token before the last one may be presented again, by a client that missed the answer."""
MIN_PASSWORD = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthEvent:
    """What the audit log is told."""

    action: Literal["sign_in", "refresh", "sign_out"]
    outcome: Literal["ok", "refused"]
    address: str
    email: str = ""
    user_id: UUID | None = None
    reason: str = ""


OnAuthEvent = Callable[[AuthEvent], Awaitable[None]]


@dataclass
class AuthService:
    """Users and sessions over one pool, whose connections act as `onsembl_auth`."""

    pool: Pool
    tokens: AccessTokens
    refresh_secret: bytes
    on_event: OnAuthEvent
    attempts: Attempts = field(default_factory=Attempts)

    async def sign_in(self, email: str, password: str, address: str) -> dict[str, Any]:
        """A session for the right password. Raises AuthError."""
        keys = (f"address {address}", f"account {email.lower()}")
        now = time.monotonic()
        if not all(self.attempts.allowed(key, now) for key in keys):
            await self._refused("sign_in", address, email, "too many attempts")
            raise AuthError(429, "over_request_rate_limit", "Request rate limit reached")
        async with self.pool.connection() as conn:
            user = await users.by_email(conn, email)
        if not await password_fits(password, user["encrypted_password"] if user else None) or user is None:
            for key in keys:
                self.attempts.failed(key, now)
            await self._refused("sign_in", address, email, "wrong address or password")
            raise AuthError(400, "invalid_credentials", "Invalid login credentials")
        if _banned(user):
            await self._refused("sign_in", address, email, "disabled", user["id"])
            raise AuthError(400, "user_banned", "User is banned")
        if needs_rehash(user["encrypted_password"]):
            rehashed = await hash_password(password)
            async with self.pool.connection() as conn:
                await users.update(conn, user["id"], password_hash=rehashed)
        async with self.pool.connection() as conn:
            session = await users.begin_session(conn, user["id"])
            user = await users.get(conn, user["id"])
            assert user is not None
        await self.on_event(AuthEvent(action="sign_in", outcome="ok", address=address, email=email, user_id=user["id"]))
        return self._session(user, session, RefreshToken(session["id"], 0))

    async def refresh(self, text: str, address: str) -> dict[str, Any]:
        """The next tokens of a session. A token older than the last two ends the session. Raises AuthError."""
        token = RefreshToken.parse(text, self.refresh_secret)
        if token is None:
            raise AuthError(400, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")
        async with self.pool.connection() as conn:
            session = await users.lock_session(conn, token.session_id)
            user = await users.get(conn, session["user_id"]) if session else None
            if session is None or user is None:
                raise AuthError(400, "session_not_found", "Invalid Refresh Token: Session Not Found")
            if _banned(user):
                raise AuthError(400, "user_banned", "Invalid Refresh Token: User Banned")
            reuse = REUSE_SECONDS if token.counter == session["counter"] - 1 else 0.0
            stolen = token.counter != session["counter"] and session["idle"] >= reuse
            if stolen:
                await users.end_sessions(conn, user["id"], token.session_id, "local")
            elif token.counter == session["counter"]:
                await users.advance_session(conn, token.session_id)
        if stolen:
            await self._refused("refresh", address, user["email"], "a used token came again", user["id"])
            raise AuthError(400, "refresh_token_already_used", "Invalid Refresh Token: Already Used")
        # The one before the last, by a client that missed the answer, gets the answer again.
        return self._session(user, session, RefreshToken(token.session_id, token.counter + 1))

    async def user_of(self, token: str) -> tuple[DictRow, dict[str, Any]]:
        """The user of an access token whose session still is, and the token's claims. Raises AuthError."""
        try:
            claims = self.tokens.verify(token)
            user_id, session_id = UUID(claims["sub"]), UUID(claims["session_id"])
        except (BadToken, KeyError, ValueError) as error:
            raise AuthError(403, "bad_jwt", "invalid JWT: unable to parse or verify signature") from error
        async with self.pool.connection() as conn:
            if not await users.session_exists(conn, session_id):
                raise AuthError(403, "session_not_found", "Session from session_id claim in JWT does not exist")
            user = await users.get(conn, user_id)
        if user is None:
            raise AuthError(403, "user_not_found", "User from sub claim in JWT does not exist")
        return user, claims

    async def sign_out(self, token: str, scope: str, address: str) -> None:
        """End this session, the others, or all. Raises AuthError."""
        user, claims = await self.user_of(token)
        async with self.pool.connection() as conn:
            await users.end_sessions(conn, user["id"], UUID(claims["session_id"]), scope)
        await self.on_event(
            AuthEvent(action="sign_out", outcome="ok", address=address, email=user["email"], user_id=user["id"])
        )

    async def create_user(
        self,
        conn: Connection,
        email: str,
        password: str,
        app_metadata: Mapping[str, Any],
        user_metadata: Mapping[str, Any],
    ) -> DictRow:
        """A new user. Raises AuthError."""
        check_password(password)
        user = await users.create(conn, email, await hash_password(password), app_metadata, user_metadata)
        if user is None:
            raise AuthError(422, "email_exists", "A user with this email address has already been registered")
        return user

    def _session(self, user: DictRow, session: DictRow, refresh_token: RefreshToken) -> dict[str, Any]:
        claims = {
            "sub": str(user["id"]),
            "email": user["email"],
            "phone": "",
            "app_metadata": user["app_metadata"],
            "user_metadata": user["user_metadata"],
            "role": "authenticated",
            "aal": "aal1",
            "amr": [{"method": "password", "timestamp": int(session["created_at"].timestamp())}],
            "session_id": str(session["id"]),
            "is_anonymous": False,
        }
        access_token, expires_at = self.tokens.issue(claims)
        return {
            "access_token": access_token,
            "token_type": "bearer",
            "expires_in": self.tokens.lifetime,
            "expires_at": expires_at,
            "refresh_token": refresh_token.text(self.refresh_secret),
            "user": user_json(user),
        }

    async def _refused(
        self, action: Literal["sign_in", "refresh"], address: str, email: str, reason: str, user_id: UUID | None = None
    ) -> None:
        await self.on_event(
            AuthEvent(action=action, outcome="refused", address=address, email=email, reason=reason, user_id=user_id)
        )


def check_password(password: str) -> None:
    """Raises AuthError for one that is too short."""
    if len(password) < MIN_PASSWORD:
        raise AuthError(422, "weak_password", f"Password should be at least {MIN_PASSWORD} characters.")


def user_json(user: DictRow) -> dict[str, Any]:
    """A user as the clients expect one."""
    identity = {
        "identity_id": user["id"],
        "id": user["id"],
        "user_id": user["id"],
        "identity_data": {"email": user["email"], "sub": user["id"], "email_verified": True},
        "provider": "email",
        "last_sign_in_at": user["last_sign_in_at"],
        "created_at": user["created_at"],
        "updated_at": user["updated_at"],
        "email": user["email"],
    }
    return {
        "id": user["id"],
        "aud": "authenticated",
        "role": "authenticated",
        "email": user["email"],
        "email_confirmed_at": user["created_at"],
        "phone": "",
        "confirmed_at": user["created_at"],
        "last_sign_in_at": user["last_sign_in_at"],
        "app_metadata": user["app_metadata"],
        "user_metadata": user["user_metadata"],
        "identities": [identity],
        "created_at": user["created_at"],
        "updated_at": user["updated_at"],
        "banned_until": user["banned_until"],
        "is_anonymous": False,
    }


def _banned(user: DictRow) -> bool:
    return user["banned_until"] is not None and user["banned_until"] > datetime.now(UTC)
