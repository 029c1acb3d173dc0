"""The tokens with which instances authenticate to each other.

A token is for one connection to one instance. It is signed with a key of agents' access tokens, and accepted once.
"""

from __future__ import annotations

import time

from onsembl.api.auth.agent_keys import AgentKeys, UnknownKey
from onsembl.api.http.problems import unauthenticated
from onsembl.protocol.ids import InstanceId

AUDIENCE = "onsembl-instance"
TOKEN_SECONDS = 10.0
MAX_USED = 10_000
"""How many tokens are remembered as used. Beyond that none is accepted until the oldest have expired."""


class InstanceTokens:
    """Signs tokens for other instances, and verifies those that were signed for this one."""

    def __init__(self, keys: AgentKeys, instance_id: InstanceId) -> None:
        self._keys = keys
        self._instance_id = instance_id
        self._used: dict[str, float] = {}

    def sign(self, receiver: InstanceId) -> str:
        """A new token for a connection to this instance."""
        return self._keys.sign_for(_audience(receiver), self._instance_id, TOKEN_SECONDS)

    async def accept(self, token: str) -> None:
        """Use up another instance's token. Raises Problem 401, psycopg.Error or PoolTimeout."""
        audience = _audience(self._instance_id)
        try:
            _, claims = self._keys.claims(token, audience, TOKEN_SECONDS)
        except UnknownKey:
            await self._keys.read_again()
            _, claims = self._keys.claims(token, audience, TOKEN_SECONDS)
        number, now = str(claims.get("jti", "")), time.time()
        self._used = {used: until for used, until in self._used.items() if until > now}
        if number in self._used or len(self._used) >= MAX_USED:
            raise unauthenticated("The access token was used before.")
        self._used[number] = float(claims["exp"])


def _audience(receiver: InstanceId) -> str:
    return f"{AUDIENCE}:{receiver}"
