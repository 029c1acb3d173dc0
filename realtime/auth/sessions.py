"""Sessions of the built-in Supabase Auth: sign in, refresh, authenticate, sign out."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.rates import LeakyBuckets, network_of
from onsembl.realtime.auth.errors import AuthError, TooManyAttempts
from onsembl.realtime.auth.events import Action, AuthEvent, OnAuthEvent
from onsembl.realtime.auth.passwords import Passwords
from onsembl.realtime.auth.refresh_tokens import RefreshToken, TokenUse, classify_use
from onsembl.realtime.auth.responses import user_json
from onsembl.realtime.auth.settings import AuthSettings
from onsembl.realtime.tokens import AccessTokens, BadToken
from onsembl.sql import auth_sessions, auth_users
from onsembl.sql.auth_sessions import Method, Scope
from onsembl.sql.database import Connection, Pool


@dataclass(frozen=True, slots=True)
class AuthenticatedUser:
    """The user that a request's access token names, and the token's session."""

    user: DictRow
    session_id: UUID


@dataclass
class Sessions:
    """Sessions in the database. The pool's connections act as `AUTH_ROLE`. Every method raises AuthError.

    `address` is the client's network address, for rate limits and the audit log.
    """

    pool: Pool
    tokens: AccessTokens
    refresh_secret: bytes
    passwords: Passwords
    settings: AuthSettings
    on_event: OnAuthEvent
    attempts: LeakyBuckets = field(init=False)

    def __post_init__(self) -> None:
        self.attempts = LeakyBuckets(self.settings.sign_in_failures, self.settings.sign_in_refill)

    async def sign_in(self, email: str, password: str, address: str) -> dict[str, Any]:
        """Sign in with email and password."""
        email = email.strip().lower()
        keys = (f"address {network_of(address)}", f"account {_digest(email)}")
        rejection = self.attempts.take(keys, time.monotonic())
        if rejection is not None:
            error = TooManyAttempts(rejection.wait)
            if rejection.is_first:
                await self._audit_rejection("sign_in", address, email, "too many attempts", error)
            raise error
        async with self.pool.connection() as conn:
            user = await auth_users.by_email(conn, email)
        # Compare the password first: without the right one, neither the answer nor its time tells about the account.
        if not await self.passwords.matches(password, user["encrypted_password"] if user else None) or user is None:
            error = AuthError(400, "invalid_credentials", "Invalid login credentials")
            await self._audit_rejection("sign_in", address, email, "wrong email or password", error, counted=keys)
            raise error
        self.attempts.refund(keys)
        if user["banned"]:
            error = AuthError(400, "user_banned", "User is banned")
            await self._audit_rejection("sign_in", address, email, "disabled", error, user["id"])
            raise error
        if user["email_confirmed_at"] is None:
            error = AuthError(400, "email_not_confirmed", "Email not confirmed")
            await self._audit_rejection("sign_in", address, email, "email not confirmed", error, user["id"])
            raise error
        response = await self.create(user)
        if self.passwords.needs_rehash(user["encrypted_password"]):
            rehashed = await self.passwords.hash(password)
            async with self.pool.connection() as conn:
                await auth_users.update(conn, user["id"], password_hash=rehashed)
        await self.on_event(AuthEvent(action="sign_in", outcome="ok", address=address, email=email, user_id=user["id"]))
        return response

    async def create(self, user: DictRow) -> dict[str, Any]:
        """Create a session for a user whose password was just checked."""
        async with self.pool.connection() as conn:
            current = await auth_users.signed_in(conn, user["id"], user["encrypted_password"])
            if current is None:
                raise AuthError(400, "invalid_credentials", "Invalid login credentials")
            return await self.begin(conn, current, "password")

    async def begin(self, conn: Connection, user: DictRow, method: Method) -> dict[str, Any]:
        """Create a session in the caller's transaction."""
        session = await auth_sessions.begin(conn, user["id"], self.settings.inactivity_timeout, method)
        return self._token_response(user, session, 0)

    def limit_sign_up(self, address: str) -> None:
        """Count a sign-up against the client's address. Raises TooManyAttempts."""
        rejection = self.attempts.take((f"sign-up {network_of(address)}",), time.monotonic())
        if rejection is not None:
            raise TooManyAttempts(rejection.wait)

    async def refresh(self, text: str, address: str) -> dict[str, Any]:
        """Exchange a refresh token for new tokens. A used token that no honest client presents ends the session."""
        token = RefreshToken.parse(text, self.refresh_secret)
        if token is None:
            raise AuthError(400, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")
        async with self.pool.connection() as conn:
            session = await auth_sessions.lock(conn, token.session_id)
            user = await auth_users.get(conn, session["user_id"]) if session is not None else None
            if session is None or user is None:
                raise AuthError(400, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")
            if user["banned"]:
                raise AuthError(400, "user_banned", "Invalid Refresh Token: User Banned")
            if session["over"]:
                raise AuthError(400, "session_expired", "Invalid Refresh Token: Session Expired")
            if session["idle"] >= self.settings.inactivity_timeout:
                raise AuthError(400, "session_expired", "Invalid Refresh Token: Session Expired (Inactivity)")
            use = classify_use(
                token.counter, session["counter"], session["idle"], self.settings.refresh_token_reuse_interval
            )
            current: int = session["counter"]
            match use:
                case TokenUse.CURRENT:
                    await auth_sessions.advance(conn, token.session_id)
                    current += 1
                case TokenUse.STOLEN:
                    # Raise the error after the transaction: raised here, it would roll back the end of the session.
                    await auth_sessions.end(conn, user["id"], token.session_id, "local")
                case TokenUse.REUSED:
                    pass
                case TokenUse.UNKNOWN:
                    raise AuthError(400, "validation_failed", "Invalid Refresh Token: Not Issued By This Server")
        if use is TokenUse.STOLEN:
            error = AuthError(400, "refresh_token_already_used", "Invalid Refresh Token: Already Used")
            await self._audit_rejection("refresh", address, user["email"], "refresh token reused", error, user["id"])
            raise error
        await self.on_event(
            AuthEvent(action="refresh", outcome="ok", address=address, email=user["email"], user_id=user["id"])
        )
        return self._token_response(user, session, current)

    async def authenticate(self, token: str) -> AuthenticatedUser:
        """The user of an access token. The user exists and is not disabled, and the session has not ended."""
        try:
            claims = self.tokens.verify(token)
        except BadToken as error:
            raise AuthError(
                403, "bad_jwt", f"invalid JWT: unable to parse or verify signature, {error.message}"
            ) from error
        try:
            user_id, session_id = UUID(claims["sub"]), UUID(claims["session_id"])
        except (KeyError, ValueError) as error:
            raise AuthError(403, "bad_jwt", "invalid claim: missing sub claim") from error
        async with self.pool.connection() as conn:
            user = await auth_users.get(conn, user_id)
            if user is None:
                raise AuthError(403, "user_not_found", "User from sub claim in JWT does not exist")
            if not await auth_sessions.exists(conn, session_id, user_id):
                raise AuthError(403, "session_not_found", "Session from session_id claim in JWT does not exist")
        if user["banned"]:
            raise AuthError(403, "user_banned", "User is banned")
        return AuthenticatedUser(user, session_id)

    async def sign_out(self, token: str, scope: Scope, address: str) -> None:
        """End this session, the user's other sessions, or all of them."""
        caller = await self.authenticate(token)
        async with self.pool.connection() as conn:
            await auth_sessions.end(conn, caller.user["id"], caller.session_id, scope)
        await self.on_event(
            AuthEvent(
                action="sign_out",
                outcome="ok",
                address=address,
                email=caller.user["email"],
                user_id=caller.user["id"],
                reason=scope,
            )
        )

    async def _audit_rejection(
        self,
        action: Action,
        address: str,
        email: str,
        reason: str,
        error: AuthError,
        user_id: UUID | None = None,
        counted: tuple[str, ...] = (),
    ) -> None:
        """Write the rejection to the audit log and mark the error as audited."""
        event = AuthEvent(
            action=action,
            outcome="refused",
            address=address,
            email=email,
            reason=reason,
            user_id=user_id,
            counted=counted,
        )
        await self.on_event(event)
        error.audited = True

    def _token_response(self, user: DictRow, session: DictRow, counter: int) -> dict[str, Any]:
        claims = {
            "sub": str(user["id"]),
            "email": user["email"],
            "phone": "",
            "app_metadata": user["app_metadata"],
            "user_metadata": user["user_metadata"],
            "role": "authenticated",
            "aal": "aal1",
            "amr": [{"method": session["method"], "timestamp": int(session["created_at"].timestamp())}],
            "session_id": str(session["id"]),
            "is_anonymous": False,
        }
        access_token, expires_at = self.tokens.issue(claims)
        return {
            "access_token": access_token,
            "token_type": "bearer",
            "expires_in": self.tokens.lifetime,
            "expires_at": expires_at,
            "refresh_token": RefreshToken(session["id"], counter).text(self.refresh_secret),
            "user": user_json(user),
        }


def _digest(email: str) -> str:
    """A short name of the account for rate limits, however long the text is that somebody typed."""
    return hashlib.sha256(email.encode(errors="surrogatepass")).hexdigest()
