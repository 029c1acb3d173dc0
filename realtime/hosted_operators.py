"""Operators whose accounts are in a hosted Supabase project, managed by its own client with the secret key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import httpx
from supabase import AsyncClient, AsyncClientOptions
from supabase_auth.errors import AuthError, AuthRetryableError, AuthUnknownError
from supabase_auth.types import User

from onsembl.protocol.states import Role
from onsembl.realtime.hosted import HostedProject
from onsembl.realtime.operators import NoSuchOperator, OperatorAccount, OperatorExists, OperatorRejected, role_in

T = TypeVar("T")
BAN_DURATION = f"{365 * 100 * 24}h"
PAGE_SIZE = 1000
CHECK_DOMAIN = "@check.onsembl.invalid"
"""The addresses of the users whom `onsembl supabase check` adds for a few seconds; they are no operators."""


class HostedOperators:
    """An OperatorDirectory over `supabase.auth.admin`."""

    def __init__(self, client: AsyncClient) -> None:
        self._admin = client.auth.admin

    async def add(self, email: str, password: str, role: Role) -> OperatorAccount:
        try:
            answer = await _call(
                self._admin.create_user(
                    {"email": email, "password": password, "email_confirm": True, "app_metadata": {"role": role.value}}
                )
            )
        except _Rejection as rejection:
            if rejection.code == "email_exists":
                raise OperatorExists(email) from rejection
            raise
        return _account(answer.user)

    async def list(self) -> list[OperatorAccount]:
        return sorted(
            [_account(user) async for user in self._users() if not (user.email or "").endswith(CHECK_DOMAIN)],
            key=lambda account: account.email,
        )

    async def set_role(self, email: str, role: Role) -> OperatorAccount:
        user = await self._by_email(email)
        answer = await _call(self._admin.update_user_by_id(user.id, {"app_metadata": {"role": role.value}}))
        return _account(answer.user)

    async def disable(self, email: str) -> OperatorAccount:
        user = await self._by_email(email)
        return _account((await _call(self._admin.update_user_by_id(user.id, {"ban_duration": BAN_DURATION}))).user)

    async def enable(self, email: str) -> OperatorAccount:
        user = await self._by_email(email)
        return _account((await _call(self._admin.update_user_by_id(user.id, {"ban_duration": "none"}))).user)

    async def _by_email(self, email: str) -> User:
        wanted = email.strip().lower()
        async for user in self._users():
            if (user.email or "").lower() == wanted:
                return user
        raise NoSuchOperator(email)

    async def _users(self) -> AsyncGenerator[User]:
        page = 1
        while True:
            users = await _call(self._admin.list_users(page=page, per_page=PAGE_SIZE))
            for user in users:
                yield user
            if len(users) < PAGE_SIZE:
                return
            page += 1


@asynccontextmanager
async def hosted_operators(project: HostedProject) -> AsyncGenerator[HostedOperators]:
    """The project's operators. The client stores no session and starts no timer."""
    async with httpx.AsyncClient(timeout=30.0) as http:
        options = AsyncClientOptions(persist_session=False, auto_refresh_token=False, httpx_client=http)
        yield HostedOperators(AsyncClient(project.url, project.secret_key, options))


class _Rejection(OperatorRejected):
    def __init__(self, message: str, code: str | None) -> None:
        super().__init__(message)
        self.code = code


async def _call(call: Awaitable[T]) -> T:
    try:
        return await call
    except (AuthRetryableError, AuthUnknownError, httpx.HTTPError) as error:
        raise _Rejection(f"The Supabase project could not be reached: {error}", None) from error
    except AuthError as error:
        raise _Rejection(f"The Supabase project rejected the call: {error.message}", error.code) from error


def _account(user: User) -> OperatorAccount:
    banned_until = datetime.fromisoformat(user.banned_until) if user.banned_until else None
    return OperatorAccount(
        id=UUID(user.id),
        email=user.email or "",
        role=role_in(user.app_metadata),
        disabled=banned_until is not None and banned_until > datetime.now(UTC),
        created_at=user.created_at,
        last_sign_in_at=user.last_sign_in_at,
    )
