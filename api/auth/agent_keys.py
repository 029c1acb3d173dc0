"""Agents' access tokens: short-lived, ES256, signed and verified in memory with keys from the database."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from onsembl.api.http.problems import Problem, unauthenticated
from onsembl.api.notifier import Notifier
from onsembl.fleet import instance_messages
from onsembl.fleet.instance_messages import Broadcast
from onsembl.protocol.ids import AgentId
from onsembl.sql import signing_keys
from onsembl.sql.database import Pool

ISSUER = "onsembl"
AUDIENCE = "onsembl-agent"
ALGORITHM = "ES256"

RELOAD_SECONDS = 1.0
ROUNDING_SECONDS = 1.0
"""Tokens expire at a whole second, rounded up."""


class UnknownKey(Problem):
    """The access token was signed with an unknown key."""

    def __init__(self) -> None:
        super().__init__(401, str(self.__doc__), headers={"WWW-Authenticate": "Bearer"})


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """The agent that an access token names. The token was signed with the key `kid` and is valid from `issued_at` until
    `expires_at` (Unix time)."""

    id: AgentId
    kid: str
    issued_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Key:
    """A public key. It verifies, until `ends` (Unix time), tokens with a lifetime of at most `token_seconds`."""

    public: ec.EllipticCurvePublicKey
    ends: float
    token_seconds: float


class AgentKeys:
    """Signs and verifies access tokens with a lifetime of `access_seconds`."""

    def __init__(self, pool: Pool, access_seconds: float) -> None:
        self._pool = pool
        self.access_seconds = access_seconds
        self._signing: tuple[str, ec.EllipticCurvePrivateKey] | None = None
        self._verifying: dict[str, _Key] = {}
        self.keys_changed = Notifier()
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")

    async def load(self) -> None:
        """Read the keys; the first instance creates the first key. Raises psycopg.Error or PoolTimeout."""
        async with self._reading:
            await self._read()

    async def read_again(self) -> None:
        """Read the keys, unless they were read less than `RELOAD_SECONDS` before this call, or while it waited."""
        asked = time.monotonic()
        async with self._reading:
            if self._read_at < asked - RELOAD_SECONDS:
                await self._read()

    async def _read(self) -> None:
        self._read_at = time.monotonic()
        async with self._pool.connection() as conn:
            rows = await signing_keys.live(conn)
            if not rows:
                await signing_keys.add_first(conn, secrets.token_hex(8), new_private_pem())
                rows = await signing_keys.live(conn)
            if rows[0]["token_seconds"] < self.access_seconds:
                await signing_keys.note_lifetime(conn, self.access_seconds)
                await instance_messages.broadcast(conn, Broadcast(op="keys_changed"))
                rows = await signing_keys.live(conn)
        keys = [(row, _private_key(row["private_pem"])) for row in rows]
        self._verifying = {
            row["kid"]: _Key(
                key.public_key(),
                row["retired_at"].timestamp() if row["retired_at"] is not None else math.inf,
                row["token_seconds"],
            )
            for row, key in keys
        }
        self._signing = rows[0]["kid"], keys[0][1]
        self.keys_changed.notify_all()

    async def recognise(self, token: str) -> AgentIdentity:
        """The agent that the access token names. Raises Problem 401, psycopg.Error or PoolTimeout.

        If the key is unknown, the keys are read again, since another instance may have created it: once for all
        callers that wait, and at most once in `RELOAD_SECONDS`.
        """
        try:
            return self.verify(token)
        except UnknownKey:
            await self.read_again()
            return self.verify(token)

    def verify(self, token: str) -> AgentIdentity:
        """The agent that the access token names, by the keys in memory. Raises Problem 401."""
        kid, claims = self.claims(token, AUDIENCE)
        return AgentIdentity(AgentId(UUID(claims["sub"])), kid, float(claims["iat"]), float(claims["exp"]))

    def claims(self, token: str, audience: str, longest: float | None = None) -> tuple[str, Mapping[str, Any]]:
        """The key and the claims of a token for this audience, with a UUID in `sub` and a lifetime of at most `longest`
        seconds; without `longest`, of that of access tokens. Raises Problem 401."""
        try:
            kid = kid_of(token)
            if (key := self._verifying.get(kid)) is None:
                raise UnknownKey
            claims = jwt.decode(
                token,
                key.public,
                algorithms=[ALGORITHM],
                audience=audience,
                issuer=ISSUER,
                options={"require": ["exp", "iat", "sub"]},
            )
            UUID(claims["sub"])
            lifetime = float(claims["exp"]) - float(claims["iat"])
        except jwt.ExpiredSignatureError as error:
            raise unauthenticated("The access token has expired.") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise unauthenticated("The access token is not valid.") from error
        # Only a thief of a key signs with it after its end, or for longer than this server does.
        if not self.verifies(kid):
            raise unauthenticated("The access token was signed with a retired key.")
        if lifetime > (key.token_seconds if longest is None else longest) + ROUNDING_SECONDS:
            raise unauthenticated("The access token has a longer lifetime than this server gives.")
        return kid, claims

    def verifies(self, kid: str) -> bool:
        """Whether tokens that were signed with this key are still accepted."""
        key = self._verifying.get(kid)
        return key is not None and time.time() < key.ends

    def sign(self, agent_id: AgentId) -> str:
        """A new access token of this agent. `load` must have been called before."""
        return self.sign_for(AUDIENCE, agent_id, self.access_seconds)

    def sign_for(self, audience: str, subject: UUID, seconds: float) -> str:
        """A new token for this audience that lives so many seconds. `load` must have been called before."""
        assert self._signing is not None, "load() must be called first"
        kid, key = self._signing
        now = time.time()
        claims = {
            "iss": ISSUER,
            "aud": audience,
            "sub": str(subject),
            "iat": now,  # to the microsecond, so that tokens issued before a moment can be rejected
            # A whole second, rounded up: the token lives at least as long as the agent is told.
            "exp": math.ceil(now + seconds),
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": kid})


def kid_of(token: str) -> str:
    """The id of the key in the token's header, not verified; empty if there is none. Raises jwt.PyJWTError."""
    kid: object = jwt.get_unverified_header(token).get("kid")
    return kid if isinstance(kid, str) else ""


def _private_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def new_private_pem() -> str:
    """A new private key for signing agents' tokens, as PEM."""
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )
