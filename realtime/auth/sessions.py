"""Sessions at the Auth stand-in: sign in, refresh, who is asking, sign out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.rates import LeakyBuckets, network_of
from onsembl.realtime.auth.errors import AuthError, TooManyAttempts
from onsembl.realtime.auth.events import Action, AuthEvent, OnAuthEvent
from onsembl.realtime.auth.passwords import Passwords
from onsembl.realtime.auth.refresh_tokens import RefreshToken, Use, use_of
from onsembl.realtime.auth.settings import AuthSettings
from onsembl.realtime.auth.users import user_json
from onsembl.realtime.tokens import AccessTokens, BadToken
from onsembl.sql import auth_sessions, auth_users
from onsembl.sql.auth_sessions import Scope
from onsembl.sql.database import Pool


@dataclass(frozen=True, slots=True)
class Asker:
    """The user whose access token came with a request, and the session that it belongs to."""

    user: DictRow
    session_id: UUID


@dataclass
class Sessions:
    """Over a pool whose connections act as `onsembl_auth`. Every method raises AuthError."""

    pool: Pool
    tokens: AccessTokens
    refresh_secret: bytes
    passwords: Passwords
    settings: AuthSettings
    on_event: OnAuthEvent
    attempts: LeakyBuckets = field(init=False)

    def __post_init__(self) -> None:
        self.attempts = LeakyBuckets(self.settings.failures, self.settings.failure_refill)

    async def sign_in(self, email: str, password: str, address: str) -> dict[str, Any]:
        """A session for the right password."""
        email = email.strip().lower()
        keys = (f"address {network_of(address)}", f"account {email}")
        refusal = self.attempts.take(keys, time.monotonic())
        if refusal is not None:
            if refusal.is_first:
                reason = "too many attempts"
                raise await self._refused("sign_in", address, email, reason, TooManyAttempts(refusal.wait))
            raise TooManyAttempts(refusal.wait)
        async with self.pool.connection() as conn:
            user = await auth_users.by_email(conn, email)
        # The password comes first: who does not know it learns nothing of the account, by the answer or by its time.
        if not await self.passwords.fits(password, user["encrypted_password"] if user else None) or user is None:
            error = AuthError(400, "invalid_credentials", "Invalid login credentials")
            raise await self._refused("sign_in", address, email, "wrong address or password", error)
        self.attempts.refund(keys)
        if user["banned"]:
            error = AuthError(400, "user_banned", "User is banned")
            raise await self._refused("sign_in", address, email, "disabled", error, user["id"])
        if user["email_confirmed_at"] is None:
            error = AuthError(400, "email_not_confirmed", "Email not confirmed")
            raise await self._refused("sign_in", address, email, "address not confirmed", error, user["id"])
        answer = await self.begin(user)
        if self.passwords.needs_rehash(user["encrypted_password"]):
            rehashed = await self.passwords.hash(password)
            async with self.pool.connection() as conn:
                await auth_users.update(conn, user["id"], password_hash=rehashed)
        await self.on_event(AuthEvent(action="sign_in", outcome="ok", address=address, email=email, user_id=user["id"]))
        return answer

    async def begin(self, user: DictRow) -> dict[str, Any]:
        """A session of a user whose password was right a moment ago."""
        async with self.pool.connection() as conn:
            current = await auth_users.signed_in(conn, user["id"], user["encrypted_password"])
            if current is None:
                raise AuthError(400, "invalid_credentials", "Invalid login credentials")
            session = await auth_sessions.begin(conn, current["id"], self.settings.idle)
        return self._answer(current, session, 0)

    def limit_sign_up(self, address: str) -> None:
        """Count one against the address. Raises TooManyAttempts."""
        refusal = self.attempts.take((f"sign-up {network_of(address)}",), time.monotonic())
        if refusal is not None:
            raise TooManyAttempts(refusal.wait)

    async def refresh(self, text: str, address: str) -> dict[str, Any]:
        """The next tokens of a session. A used token that no honest client would present ends it."""
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
            if session["idle"] >= self.settings.idle:
                raise AuthError(400, "session_expired", "Invalid Refresh Token: Session Expired (Inactivity)")
            use = use_of(token.counter, session["counter"], session["idle"], self.settings.reuse)
            good: int = session["counter"]
            match use:
                case Use.FIRST:
                    await auth_sessions.advance(conn, token.session_id)
                    good += 1
                case Use.STOLEN:
                    # Not raised here: an error would undo the end of the session.
                    await auth_sessions.end(conn, user["id"], token.session_id, "local")
                case Use.REPEATED:
                    pass
                case Use.FOREIGN:
                    raise AuthError(400, "validation_failed", "Invalid Refresh Token: Not Issued By This Server")
        if use is Use.STOLEN:
            error = AuthError(400, "refresh_token_already_used", "Invalid Refresh Token: Already Used")
            reason = "a used token came again"
            raise await self._refused("refresh", address, user["email"], reason, error, user["id"])
        await self.on_event(
            AuthEvent(action="refresh", outcome="ok", address=address, email=user["email"], user_id=user["id"])
        )
        return self._answer(user, session, good)

    async def asker(self, token: str) -> Asker:
        """Whose access token this is: they exist, are not disabled, and the session has not been ended."""
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
        return Asker(user, session_id)

    async def sign_out(self, token: str, scope: Scope, address: str) -> None:
        """End this session, the others, or all."""
        asker = await self.asker(token)
        async with self.pool.connection() as conn:
            await auth_sessions.end(conn, asker.user["id"], asker.session_id, scope)
        await self.on_event(
            AuthEvent(
                action="sign_out",
                outcome="ok",
                address=address,
                email=asker.user["email"],
                user_id=asker.user["id"],
                reason=scope,
            )
        )

    async def _refused(
        self, action: Action, address: str, email: str, reason: str, error: AuthError, user_id: UUID | None = None
    ) -> AuthError:
        """The error, once it is in the audit log."""
        await self.on_event(
            AuthEvent(action=action, outcome="refused", address=address, email=email, reason=reason, user_id=user_id)
        )
        error.told = True
        return error

    def _answer(self, user: DictRow, session: DictRow, counter: int) -> dict[str, Any]:
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
            "refresh_token": RefreshToken(session["id"], counter).text(self.refresh_secret),
            "user": user_json(user),
        }
