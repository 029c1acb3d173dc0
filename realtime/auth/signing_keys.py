"""Signing keys in the database: created on the first start, rotated, and reloaded by every process that uses them.

A new key is published in the JWKS before it signs, so that every process and client knows the key when the first token
of it arrives. The key before it still verifies until the next rotation. So two keys are live.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import psycopg

from onsembl.realtime.auth.settings import AUTH_ROLE, AuthSettings
from onsembl.realtime.tokens import AccessTokens, SigningKey
from onsembl.sql import auth_project
from onsembl.sql.database import Pool, create_pool

logger = logging.getLogger(__name__)

LIVE_KEYS = 2


class RotationTooSoon(Exception):
    """A rotation would invalidate tokens of the second newest key. Wait for the lifetime of one token, or revoke."""


class SigningKeys:
    """Keeps `tokens` in step with the keys in the database. The pool's connections act as `AUTH_ROLE`.

    `on_removed` is called when a key has stopped verifying.
    """

    def __init__(
        self, pool: Pool, tokens: AccessTokens, settings: AuthSettings, on_removed: Callable[[], None] = lambda: None
    ) -> None:
        self._pool = pool
        self._tokens = tokens
        self._settings = settings
        self._on_removed = on_removed
        self._known: dict[str, SigningKey] = {}
        self._loading = asyncio.Lock()

    async def load(self) -> None:
        """Read the keys, or create the first. Raises psycopg.OperationalError."""
        async with self._loading:
            await self._load()

    async def _load(self) -> None:
        async with self._pool.connection() as conn:
            rows = await auth_project.live_keys(conn, self._settings.key_publish_seconds)
            if not rows:
                first = SigningKey.new()
                await auth_project.add_first_key(conn, first.kid, first.pem())
                rows = await auth_project.live_keys(conn, self._settings.key_publish_seconds)
        keys = [self._known.get(row["kid"]) or SigningKey.from_pem(row["kid"], row["private_pem"]) for row in rows]
        before, self._known = self._known, {key.kid: key for key in keys}
        # The newest key that has been published for long enough signs; if there is none, the oldest key.
        signing = next((row["kid"] for row in rows if row["ready"]), rows[-1]["kid"])
        self._tokens.use(keys, signing)
        if before.keys() - self._known.keys():
            self._on_removed()

    async def rotate(self, *, revoke: bool = False) -> str:
        """Add a key, which signs once it has been published for long enough, and keep the newest old key. Returns the
        new key's id.

        `revoke` is for a key that leaked: it drops the old keys at once, and so invalidates every access token. Raises
        RotationTooSoon and psycopg.OperationalError.
        """
        key = SigningKey.new()
        keep, settled = (1, 0.0) if revoke else (LIVE_KEYS, float(self._tokens.lifetime))
        async with self._pool.connection() as conn:
            if not await auth_project.rotate(conn, key.kid, key.pem(), keep, settled):
                raise RotationTooSoon("The newest signing key is younger than the tokens of the one before it.")
        await self.load()
        logger.info("Added the signing key %s", key.kid, extra={"action": "signing_key_rotated", "kid": key.kid})
        return key.kid

    async def reload_repeatedly(self) -> None:
        """Reload the keys every few seconds, for rotations by other processes, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.key_reload_seconds)
            try:
                await self.load()
            except psycopg.OperationalError as error:
                logger.warning("Reloading the signing keys failed: %s", error, extra={"action": "signing_keys_stale"})


@asynccontextmanager
async def builtin_signing_keys(database_url: str, settings: AuthSettings | None = None) -> AsyncGenerator[SigningKeys]:
    """The signing keys, for a process that serves nothing. The servers reload the keys themselves."""
    settings = settings or AuthSettings()
    async with create_pool(database_url, role=AUTH_ROLE, min_size=1, max_size=1) as pool:
        yield SigningKeys(pool, AccessTokens("", settings.access_token_lifetime), settings)
