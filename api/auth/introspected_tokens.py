"""Operators' access tokens that are signed with a shared secret (HS256): verified by asking the issuer (RFC 7662).

Supabase advises against copying that secret to another server. An answer is cached for a short time, so that a busy
page costs one request a minute.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import httpx
import jwt

from onsembl.api.auth.operator import Operator, operator_from
from onsembl.api.auth.rate_limits import RateLimiter
from onsembl.api.auth.supabase_user import NoAnswer, RejectedBySupabase, user_of
from onsembl.api.http.problems import Problem, unauthenticated
from onsembl.realtime.tokens import AUDIENCE

CACHE_SECONDS = 60.0
MAX_CACHED = 1000


class IntrospectedTokens:
    """Verifies tokens by `GET /auth/v1/user` of their issuer."""

    def __init__(self, client: httpx.AsyncClient, issuer: str, api_key: str, rate_limiter: RateLimiter) -> None:
        self._client = client
        self._rate_limiter = rate_limiter
        self._issuer = issuer
        self._api_key = api_key
        self._cache: OrderedDict[bytes, tuple[float, Operator]] = OrderedDict()

    async def verify(self, token: str, address: str) -> Operator:
        """The operator at `address` who holds the token. Raises jwt.PyJWTError, Problem 401, Problem 429 when too many
        tokens from this address were not valid, and Problem 503 when the issuer does not answer."""
        key = hashlib.sha256(token.encode()).digest()
        until, operator = self._cache.get(key, (0.0, None))
        if operator is not None and time.monotonic() < until and operator.expires_at > time.time():
            return operator
        claims = jwt.decode(
            token,
            audience=AUDIENCE,
            issuer=self._issuer,
            options={
                "verify_signature": False,  # the issuer verifies it
                "verify_exp": True,
                "verify_aud": True,
                "verify_iss": True,
                "require": ["exp", "sub", "role"],
            },
        )
        self._rate_limiter.count_introspection(address)
        operator = await self._introspect(token, claims)
        self._rate_limiter.refund_introspection(address)
        self._cache[key] = (time.monotonic() + CACHE_SECONDS, operator)
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return operator

    async def _introspect(self, token: str, claims: Mapping[str, Any]) -> Operator:
        try:  # claims that the answer does not contain are read from the token
            user = await user_of(self._client, self._issuer, self._api_key, token)
        except NoAnswer as error:
            raise Problem(503, "The sign-in service is not responding; try again.") from error
        except RejectedBySupabase as error:
            raise unauthenticated("The sign-in service rejected the access token.") from error
        return operator_from(
            {**claims, "sub": user["id"], "email": user.get("email"), "app_metadata": user.get("app_metadata")}
        )
