"""Access tokens of projects that still sign with a shared secret (HS256): the issuer is asked who holds one.

Supabase advises against handing that secret to a server of one's own. An answer is believed for a short while, so a
busy page costs a question a minute.
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
from onsembl.api.http.problems import Problem, unauthenticated
from onsembl.realtime.tokens import AUDIENCE

BELIEVED_SECONDS = 60.0
REMEMBERED = 1000


class IntrospectedTokens:
    """Verifies tokens by `GET /auth/v1/user` at their issuer."""

    def __init__(self, client: httpx.AsyncClient, issuer: str, api_key: str, rate_limiter: RateLimiter) -> None:
        self._client = client
        self._rate_limiter = rate_limiter
        self._issuer = issuer
        self._api_key = api_key
        self._believed: OrderedDict[bytes, tuple[float, Operator]] = OrderedDict()

    async def verify(self, token: str, address: str) -> Operator:
        """Who, at `address`, holds the token. Raises jwt.PyJWTError or Problem 401, 429 when it was asked in vain too
        often for this address, and 503 when the issuer does not answer."""
        key = hashlib.sha256(token.encode()).digest()
        until, operator = self._believed.get(key, (0.0, None))
        if operator is not None and time.monotonic() < until and operator.expires_at > time.time():
            return operator
        claims = jwt.decode(
            token,
            audience=AUDIENCE,
            issuer=self._issuer,
            options={
                "verify_signature": False,  # the issuer does that
                "verify_exp": True,
                "verify_aud": True,
                "verify_iss": True,
                "require": ["exp", "sub", "role"],
            },
        )
        self._rate_limiter.count_introspection(address)
        operator = await self._ask(token, claims)
        self._rate_limiter.refund_introspection(address)
        self._believed[key] = (time.monotonic() + BELIEVED_SECONDS, operator)
        if len(self._believed) > REMEMBERED:
            self._believed.popitem(last=False)
        return operator

    async def _ask(self, token: str, claims: Mapping[str, Any]) -> Operator:
        headers = {"Authorization": f"Bearer {token}", "apikey": self._api_key}
        try:
            response = await self._client.get(f"{self._issuer}/user", headers=headers)
        except httpx.HTTPError as error:
            raise Problem(503, "The sign-in service does not answer; try again.") from error
        if response.status_code >= 500 or response.status_code == 429:
            raise Problem(503, "The sign-in service does not answer; try again.")
        if response.status_code != 200:
            raise unauthenticated("The sign-in service does not accept the access token.")
        user = response.json()  # what it does not repeat is read from the token itself
        return operator_from(
            {**claims, "sub": user["id"], "email": user.get("email"), "app_metadata": user.get("app_metadata")}
        )
