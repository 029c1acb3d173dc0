"""Operators' access tokens: issued by Supabase Auth or its stand-in, checked here by the issuer's published keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import jwt

from onsembl.api.auth.introspected_tokens import IntrospectedTokens
from onsembl.api.auth.operator import Operator, operator_from
from onsembl.api.http.problems import unauthenticated
from onsembl.api.notifier import Notifier
from onsembl.realtime.tokens import AUDIENCE

ALGORITHMS = ["ES256", "RS256"]
KEYS_KEPT_SECONDS = 600.0
REFETCH_SECONDS = 10.0
"""An unknown key id makes the keys be fetched again, but not more often than this."""
LEEWAY_SECONDS = 5.0
REMEMBERED = 1000
"""Tokens whose signature need not be checked again."""

FetchKeys = Callable[[], Awaitable[Mapping[str, Any]]]


class OperatorTokens:
    """Verifies access tokens by the issuer's JWKS: signature, issuer, audience and times.

    `asked` is for a hosted project that may sign with a shared secret.
    """

    def __init__(self, issuer: str, fetch_keys: FetchKeys, asked: IntrospectedTokens | None = None) -> None:
        self._issuer = issuer
        self._asked = asked
        self._fetch_keys = fetch_keys
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()
        self.keys_changed = Notifier()
        self._verified: dict[str, Operator] = {}
        """Whose each is, while the keys are the same."""

    async def verify(self, token: str, address: str) -> Operator:
        """Who, at `address`, holds the token. Raises Problem 401 when it is not a good one, and what `asked` does."""
        known = self._verified.get(token)
        if known is not None and time.time() < known.expires_at + LEEWAY_SECONDS and self._age() <= KEYS_KEPT_SECONDS:
            return known
        try:
            header = jwt.get_unverified_header(token)
            if self._asked is not None and header.get("alg") == "HS256":
                return await self._asked.verify(token, address)
            kid: object = header.get("kid")
            if not isinstance(kid, str) or (key := await self._key(kid)) is None:
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
            operator = operator_from(claims, kid)
        except jwt.ExpiredSignatureError as error:
            raise unauthenticated("The access token has expired.") from error
        except (jwt.PyJWTError, KeyError, ValueError) as error:
            raise unauthenticated("The access token is not valid here.") from error
        if len(self._verified) >= REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = operator
        return operator

    def knows(self, operator: Operator) -> bool:
        """Whether the key that signed the operator's token is a good one still."""
        return operator.kid is None or operator.kid in self._keys

    async def reload(self) -> None:
        """Fetch the keys now; those known so far serve on when that fails."""
        async with self._fetching:
            await self._fetch()

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
            await self._fetch()

    async def _fetch(self) -> None:
        try:
            document = await self._fetch_keys()
            found = jwt.PyJWKSet.from_dict(dict(document)).keys
        except (httpx.HTTPError, jwt.PyJWTError) as error:
            if not self._keys:
                raise unauthenticated("The keys of the sign-in service could not be read; try again.") from error
            return  # the keys known so far serve on
        self._keys = {key.key_id: key for key in found if key.key_id is not None}
        self._fetched_at = time.monotonic()
        self._verified.clear()  # a key may have been taken back
        self.keys_changed.notify_all()
