"""Agents' access tokens: short, ES256, signed and checked in memory by keys that live in the database."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from dataclasses import dataclass
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
"""Tokens end with a whole second."""


class UnknownKey(Problem):
    """The access token was signed by a key that is not known here."""

    def __init__(self) -> None:
        super().__init__(401, str(self.__doc__), headers={"WWW-Authenticate": "Bearer"})


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """The agent that an access token names, from `issued_at` until `expires_at` (Unix time), by the key `kid`."""

    id: AgentId
    kid: str
    issued_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Key:
    """Verifies until `ends` (Unix time) what lives no longer than `token_seconds`."""

    public: ec.EllipticCurvePublicKey
    ends: float
    token_seconds: float


class AgentKeys:
    """Signs and verifies access tokens that live for `access_seconds`."""

    def __init__(self, pool: Pool, access_seconds: float) -> None:
        self._pool = pool
        self.access_seconds = access_seconds
        self._signing: tuple[str, ec.EllipticCurvePrivateKey] | None = None
        self._verifying: dict[str, _Key] = {}
        self.keys_changed = Notifier()
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")

    async def load(self) -> None:
        """Read the keys; the first instance of all makes the first one. Raises psycopg.Error or PoolTimeout."""
        async with self._reading:
            await self._read()

    async def _read_again(self) -> None:
        """Read the keys, unless that has begun not long before this was asked, or while it waits."""
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
        """Who holds the access token. A key that is not known makes the keys be read again, for another instance may
        have begun to use it: once for all who come with such keys, and not more often than every `RELOAD_SECONDS`.
        Raises Problem 401, psycopg.Error or PoolTimeout."""
        try:
            return self.verify(token)
        except UnknownKey:
            await self._read_again()
            return self.verify(token)

    def verify(self, token: str) -> AgentIdentity:
        """Who holds the access token, by the keys that are known; in memory. Raises Problem 401."""
        try:
            kid = kid_of(token)
            if (key := self._verifying.get(kid)) is None:
                raise UnknownKey
            claims = jwt.decode(
                token,
                key.public,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": ["exp", "iat", "sub"]},
            )
            identity = AgentIdentity(AgentId(UUID(claims["sub"])), kid, float(claims["iat"]), float(claims["exp"]))
        except jwt.ExpiredSignatureError as error:
            raise unauthenticated("The access token has expired.") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise unauthenticated("The access token is not valid here.") from error
        # Nobody but who has stolen a key signs on with it when it is retired, or for longer than we do.
        if not self.verifies(kid):
            raise unauthenticated("The key of the access token is retired.")
        if identity.expires_at - identity.issued_at > key.token_seconds + ROUNDING_SECONDS:
            raise unauthenticated("The access token lives longer than those that are made here.")
        return identity

    def verifies(self, kid: str) -> bool:
        """Whether what this key has signed is still taken."""
        key = self._verifying.get(kid)
        return key is not None and time.time() < key.ends

    def sign(self, agent_id: AgentId) -> str:
        """An access token of this agent, from now on. `load` comes first."""
        assert self._signing is not None, "load() comes first"
        kid, key = self._signing
        now = time.time()
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(agent_id),
            "iat": now,  # to the microsecond: tokens issued before a moment can be refused
            # Whole seconds, and never fewer than the agent is told.
            "exp": math.ceil(now + self.access_seconds),
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": kid})


def kid_of(token: str) -> str:
    """The key that the token says it was signed by; empty when it does not say. Raises jwt.PyJWTError."""
    kid: object = jwt.get_unverified_header(token).get("kid")
    return kid if isinstance(kid, str) else ""


def _private_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def new_private_pem() -> str:
    """A key that can sign agents' tokens."""
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )
