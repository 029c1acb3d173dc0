"""The users of the built-in Supabase Auth: an admin creates, changes and deletes them; users change themselves."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.realtime.auth.errors import AuthError
from onsembl.realtime.auth.events import Action, AuthEvent, OnAuthEvent
from onsembl.realtime.auth.passwords import Passwords
from onsembl.realtime.auth.sessions import AuthenticatedUser
from onsembl.sql import auth_one_time_tokens, auth_sessions, auth_users
from onsembl.sql.database import Pool

MIN_PASSWORD = 6
MAX_PASSWORD = 1024
_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
EMAIL = re.compile(rf"[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})*")
"""An email address as HTML and Supabase Auth define it."""
MAX_EMAIL = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminUserAttributes:
    """The attributes that an admin sets; None leaves an attribute as it is. `ban` is in seconds; 0 lifts the ban."""

    email: str | None = None
    password: str | None = None
    app_metadata: Mapping[str, Any] | None = None
    user_metadata: Mapping[str, Any] | None = None
    confirm: bool = False
    ban: float | None = None


@dataclass
class Accounts:
    """Users in the database. The pool's connections act as `AUTH_ROLE`. Every method raises AuthError.

    `address` is the client's network address, for the audit log.
    """

    pool: Pool
    passwords: Passwords
    on_event: OnAuthEvent

    async def create(self, attributes: AdminUserAttributes, address: str, *, user_id: UUID | None = None) -> DictRow:
        """Create a user, as an admin. Without a password, no password matches."""
        email = valid_email(attributes.email or "")
        if attributes.password is not None:
            check_password(attributes.password)
        password_hash = await self.passwords.hash(attributes.password or secrets.token_urlsafe(48))
        async with self.pool.connection() as conn:
            user = await auth_users.create(
                conn,
                email,
                password_hash,
                attributes.app_metadata or {},
                attributes.user_metadata or {},
                user_id=user_id,
                confirmed=attributes.confirm,
                ban_seconds=attributes.ban or None,
            )
        if user is None:
            raise email_exists()
        await self._audit("user_created", user, address, by_admin=True)
        return user

    async def sign_up(self, email: str, password: str, data: Mapping[str, Any], address: str) -> DictRow:
        """Create a user, as the user. The user has no role until an admin gives one."""
        email = valid_email(email)
        if not password:
            raise AuthError(400, "validation_failed", "Signup requires a valid password")
        check_password(password)
        password_hash = await self.passwords.hash(password)
        async with self.pool.connection() as conn:
            user = await auth_users.create(conn, email, password_hash, {}, data)
        if user is None:
            raise AuthError(422, "user_already_exists", "User already registered")
        await self._audit("sign_up", user, address)
        return user

    async def get(self, user_id: UUID) -> DictRow:
        """The user with this id."""
        async with self.pool.connection() as conn:
            return _found(await auth_users.get(conn, user_id))

    async def list(self, limit: int, offset: int) -> tuple[list[DictRow], int]:
        """A page of users, newest first, and the number of all users."""
        async with self.pool.connection() as conn:
            return await auth_users.list_users(conn, limit, offset), await auth_users.count(conn)

    async def change(self, user_id: UUID, attributes: AdminUserAttributes, address: str) -> DictRow:
        """Change a user, as an admin. A new password ends all of the user's sessions."""
        email = valid_email(attributes.email) if attributes.email else None
        password_hash = None
        if attributes.password is not None:
            check_password(attributes.password)
            password_hash = await self.passwords.hash(attributes.password)
        try:
            async with self.pool.connection() as conn:
                user = _found(
                    await auth_users.update(
                        conn,
                        user_id,
                        email=email,
                        password_hash=password_hash,
                        app_metadata=attributes.app_metadata,
                        user_metadata=attributes.user_metadata,
                        confirm=attributes.confirm,
                    )
                )
                if attributes.ban is not None:
                    user = _found(await auth_users.ban(conn, user_id, attributes.ban or None))
                if password_hash is not None:
                    await auth_sessions.end(conn, user_id, None, "global")
                if password_hash is not None or email is not None:
                    await auth_one_time_tokens.revoke(conn, user_id)
        except auth_users.EmailTaken as error:
            raise email_exists() from error
        await self._audit("user_changed", user, address, by_admin=True)
        return user

    async def change_own(
        self, caller: AuthenticatedUser, password: str | None, data: Mapping[str, Any] | None, address: str
    ) -> DictRow:
        """Change the caller's password or metadata. A new password ends the caller's other sessions."""
        password_hash = None
        if password is not None:
            check_password(password)
            if await self.passwords.matches(password, caller.user["encrypted_password"]):
                raise AuthError(422, "same_password", "New password should be different from the old password.")
            password_hash = await self.passwords.hash(password)
        async with self.pool.connection() as conn:
            user = _found(
                await auth_users.update(conn, caller.user["id"], password_hash=password_hash, user_metadata=data)
            )
            if password_hash is not None:
                await auth_sessions.end(conn, user["id"], caller.session_id, "others")
                await auth_one_time_tokens.revoke(conn, user["id"])
        if password_hash is not None:
            await self._audit("password_changed", user, address)
        return user

    async def delete(self, user_id: UUID, address: str) -> None:
        """Delete a user and the user's sessions."""
        async with self.pool.connection() as conn:
            user = _found(await auth_users.delete(conn, user_id))
        await self._audit("user_deleted", user, address, by_admin=True)

    async def _audit(self, action: Action, user: DictRow, address: str, *, by_admin: bool = False) -> None:
        await self.on_event(
            AuthEvent(
                action=action,
                outcome="ok",
                address=address,
                email=user["email"],
                user_id=user["id"],
                by_admin=by_admin,
            )
        )


def valid_email(email: str) -> str:
    """The email address in the form that is stored. Raises AuthError."""
    email = email.strip().lower()
    if len(email) > MAX_EMAIL or not EMAIL.fullmatch(email):
        raise AuthError(400, "validation_failed", "Unable to validate email address: invalid format")
    return email


def check_password(password: str) -> None:
    """Raises AuthError for a password that is too short or too long."""
    if len(password) < MIN_PASSWORD:
        raise AuthError(
            422,
            "weak_password",
            f"Password should be at least {MIN_PASSWORD} characters.",
            weak_password={"reasons": ["length"]},
        )
    if len(password) > MAX_PASSWORD:
        raise AuthError(400, "validation_failed", f"Password cannot be longer than {MAX_PASSWORD} characters")


def email_exists() -> AuthError:
    """The error for an email address that another user has."""
    return AuthError(422, "email_exists", "A user with this email address has already been registered")


def _found(user: DictRow | None) -> DictRow:
    if user is None:
        raise AuthError(404, "user_not_found", "User not found")
    return user
