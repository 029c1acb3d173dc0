"""Operators' access tokens: issued by Supabase Auth or its stand-in, checked here by the issuer's published keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import jwt

from onsembl.api.problems import unauthenticated
from onsembl.protocol.ids import OperatorId
from onsembl.protocol.states import Role

ALGORITHMS = ["ES256", "RS256"]
AUDIENCE = "authenticated"
KEYS_KEPT_SECONDS = 600.0
REFETCH_SECONDS = 10.0
"""An unknown key id makes the keys be fetched again, but not more often than this."""
LEEWAY_SECONDS = 5.0

FetchKeys = Callable[[], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Operator:
    """Who is asking, by a token that was good until `expires_at` (Unix time); `role` is None for one with no rights."""

    id: OperatorId
    email: str
    role: Role | None
    session_id: str
    expires_at: float


def role_of(claims: Mapping[str, Any]) -> Role | None:
    """The role in `app_metadata`, which only the project's admin can set; None when it is not one of ours."""
    metadata: object = claims.get("app_metadata")
    role: object = metadata.get("role") if isinstance(metadata, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return Role(role) if isinstance(role, str) and role in list(Role) else None


class OperatorTokens:
    """Verifies access tokens by the issuer's JWKS: signature, issuer, audience and times."""

    def __init__(self, issuer: str, fetch_keys: FetchKeys) -> None:
        self._issuer = issuer
        self._fetch_keys = fetch_keys
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def verify(self, token: str) -> Operator:
        """Who holds the token. Raises Problem 401 when it is not a good one."""
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = await self._key(kid) if isinstance(kid, str) else None
            if key is None:
                raise unauthenticated("The access token was signed by a key that is not known here.")
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=AUDIENCE,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "sub", "role"]},
            )
            return Operator(
                id=OperatorId(UUID(claims["sub"])),
                email=str(claims.get("email") or ""),
                role=role_of(claims),
                session_id=str(claims.get("session_id") or ""),
                expires_at=float(claims["exp"]),
            )
        except jwt.ExpiredSignatureError as error:
            raise unauthenticated("The access token has expired.") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise unauthenticated("The access token is not valid here.") from error

    async def _key(self, kid: str) -> jwt.PyJWK | None:
        if self._age() > KEYS_KEPT_SECONDS or (kid not in self._keys and self._age() > REFETCH_SECONDS):
            await self._refetch(kid)
        return self._keys.get(kid)

    def _age(self) -> float:
        return time.monotonic() - self._fetched_at

    async def _refetch(self, kid: str) -> None:
        async with self._fetching:
            if kid in self._keys and self._age() <= KEYS_KEPT_SECONDS:
                return  # fetched while this call waited
            try:
                document = await self._fetch_keys()
                found = jwt.PyJWKSet.from_dict(dict(document)).keys
            except (httpx.HTTPError, jwt.PyJWTError) as error:
                if not self._keys:
                    raise unauthenticated("The keys of the sign-in service could not be read; try again.") from error
                return  # the keys known so far serve on
            self._keys = {key.key_id: key for key in found if key.key_id is not None}
            self._fetched_at = time.monotonic()
