"""Operators' access tokens: issued by Supabase Auth, hosted or built in, verified by the issuer's keys."""

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
KEYS_CACHE_SECONDS = 600.0
REFETCH_SECONDS = 10.0
"""For an unknown key id the keys are fetched again, but at most once in this time."""
LEEWAY_SECONDS = 5.0
MAX_CACHED = 1000
"""Tokens whose signature is not verified again."""

FetchKeys = Callable[[], Awaitable[Mapping[str, Any]]]


class OperatorTokens:
    """Verifies access tokens by the issuer's JWKS: signature, issuer, audience and times.

    `introspected` verifies the tokens of a hosted project that signs with a shared secret.
    """

    def __init__(self, issuer: str, fetch_keys: FetchKeys, introspected: IntrospectedTokens | None = None) -> None:
        self._issuer = issuer
        self._introspected = introspected
        self._fetch_keys = fetch_keys
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()
        self.keys_changed = Notifier()
        self._verified: dict[str, Operator] = {}
        """The operator of each token that was verified with the present keys."""

    async def verify(self, token: str, address: str) -> Operator:
        """The operator at `address` who holds the token. Raises Problem 401, and the errors of `IntrospectedTokens`."""
        known = self._verified.get(token)
        if known is not None and time.time() < known.expires_at + LEEWAY_SECONDS and self._age() <= KEYS_CACHE_SECONDS:
            return known
        try:
            header = jwt.get_unverified_header(token)
            if self._introspected is not None and header.get("alg") == "HS256":
                return await self._introspected.verify(token, address)
            kid: object = header.get("kid")
            if not isinstance(kid, str) or (key := await self._key(kid)) is None:
                raise unauthenticated("The access token was signed with an unknown key.")
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
            raise unauthenticated("The access token is not valid.") from error
        if len(self._verified) >= MAX_CACHED:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = operator
        return operator

    def knows(self, operator: Operator) -> bool:
        """Whether the key that signed the operator's token is still published."""
        return operator.kid is None or operator.kid in self._keys

    async def reload(self) -> None:
        """Fetch the keys now. If that fails, the known keys stay in use."""
        async with self._fetching:
            await self._fetch()

    async def _key(self, kid: str) -> jwt.PyJWK | None:
        if self._age() > KEYS_CACHE_SECONDS or (kid not in self._keys and self._age() > REFETCH_SECONDS):
            await self._refetch(kid)
        return self._keys.get(kid)

    def _age(self) -> float:
        return time.monotonic() - self._fetched_at

    async def _refetch(self, kid: str) -> None:
        async with self._fetching:
            if kid in self._keys and self._age() <= KEYS_CACHE_SECONDS:
                return  # fetched while this call waited
            await self._fetch()

    async def _fetch(self) -> None:
        try:
            document = await self._fetch_keys()
            found = jwt.PyJWKSet.from_dict(dict(document)).keys
        except (httpx.HTTPError, jwt.PyJWTError) as error:
            if not self._keys:
                raise unauthenticated("The keys of the sign-in service could not be fetched; try again.") from error
            return  # the known keys stay in use
        self._keys = {key.key_id: key for key in found if key.key_id is not None}
        self._fetched_at = time.monotonic()
        self._verified.clear()  # a key may have been removed
        self.keys_changed.notify_all()
