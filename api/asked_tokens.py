"""Access tokens of projects that still sign with a shared secret (HS256): the issuer is asked who holds one.

Supabase advises against handing that secret to a server of one's own. An answer is believed for a short while, so a
busy page costs a question a minute.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict

import httpx
import jwt

from onsembl.api.operator_claims import Operator, operator_from
from onsembl.api.problems import Problem, unauthenticated

BELIEVED_SECONDS = 60.0
REMEMBERED = 1000


class AskedTokens:
    """Verifies tokens by `GET /auth/v1/user` at their issuer."""

    def __init__(self, client: httpx.AsyncClient, issuer: str, api_key: str) -> None:
        self._client = client
        self._issuer = issuer
        self._api_key = api_key
        self._believed: OrderedDict[bytes, tuple[float, Operator]] = OrderedDict()

    async def verify(self, token: str) -> Operator:
        """Who holds the token. Raises Problem 401, or 503 when the issuer does not answer."""
        key = hashlib.sha256(token.encode()).digest()
        until, operator = self._believed.get(key, (0.0, None))
        if operator is not None and time.monotonic() < until and operator.expires_at > time.time():
            return operator
        operator = await self._ask(token)
        self._believed[key] = (time.monotonic() + BELIEVED_SECONDS, operator)
        if len(self._believed) > REMEMBERED:
            self._believed.popitem(last=False)
        return operator

    async def _ask(self, token: str) -> Operator:
        headers = {"Authorization": f"Bearer {token}", "apikey": self._api_key}
        try:
            response = await self._client.get(f"{self._issuer}/user", headers=headers)
        except httpx.HTTPError as error:
            raise Problem(503, "The sign-in service does not answer; try again.") from error
        if response.status_code >= 500:
            raise Problem(503, "The sign-in service does not answer; try again.")
        if response.status_code != 200:
            raise unauthenticated("The sign-in service does not accept the access token.")
        # The issuer has checked the signature; what it does not repeat is read from the token itself.
        claims = jwt.decode(token, options={"verify_signature": False, "verify_exp": True})
        user = response.json()
        return operator_from(
            {**claims, "sub": user["id"], "email": user.get("email"), "app_metadata": user.get("app_metadata")}
        )
