"""Signing keys in the database: made the first time, rotated, and read again by every process that uses them.

A new key is published in the JWKS before it signs, so that no process and no client meets a token of a key it could not
know; the one before it goes on verifying until the next rotation. So two keys are live.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import psycopg

from onsembl.realtime.auth.settings import AuthSettings
from onsembl.realtime.tokens import AccessTokens, SigningKey
from onsembl.sql import auth_project
from onsembl.sql.database import Pool

logger = logging.getLogger(__name__)

LIVE_KEYS = 2


class RotationTooSoon(Exception):
    """Tokens signed by the key before the last would be cut off: wait for one token's life, or revoke."""


class Rotation:
    """Keeps `tokens` in step with the keys in the database. The pool's connections act as `onsembl_auth`.

    `on_gone` is called when a key verifies no longer.
    """

    def __init__(
        self, pool: Pool, tokens: AccessTokens, settings: AuthSettings, on_gone: Callable[[], None] = lambda: None
    ) -> None:
        self._pool = pool
        self._tokens = tokens
        self._settings = settings
        self._on_gone = on_gone
        self._known: dict[str, SigningKey] = {}
        self._loading = asyncio.Lock()

    async def load(self) -> None:
        """Read the keys, or make the first. Raises psycopg.OperationalError."""
        async with self._loading:
            await self._load()

    async def _load(self) -> None:
        async with self._pool.connection() as conn:
            rows = await auth_project.live_keys(conn, self._settings.published)
            if not rows:
                first = SigningKey.new()
                await auth_project.add_first_key(conn, first.kid, first.pem())
                rows = await auth_project.live_keys(conn, self._settings.published)
        keys = [self._known.get(row["kid"]) or SigningKey.from_pem(row["kid"], row["private_pem"]) for row in rows]
        before, self._known = self._known, {key.kid: key for key in keys}
        # The newest that has been published long enough; when none has, the one published longest.
        signing = next((row["kid"] for row in rows if row["ready"]), rows[-1]["kid"])
        self._tokens.use(keys, signing)
        if before.keys() - self._known.keys():
            self._on_gone()

    async def rotate(self, *, revoke: bool = False) -> str:
        """Add a key, which will sign once it has been published, and keep one of the old ones; its id.

        With `revoke` the old ones are refused at once, and with them every access token out there: for a key that
        leaked. Raises RotationTooSoon and psycopg.OperationalError.
        """
        key = SigningKey.new()
        keep, settled = (1, 0.0) if revoke else (LIVE_KEYS, float(self._tokens.lifetime))
        async with self._pool.connection() as conn:
            if not await auth_project.rotate(conn, key.kid, key.pem(), keep, settled):
                raise RotationTooSoon("The newest signing key is younger than the tokens of the one before it.")
        await self.load()
        logger.info("A new signing key: %s", key.kid, extra={"action": "signing_key_rotated", "kid": key.kid})
        return key.kid

    async def follow(self) -> None:
        """Read the keys again and again, for rotations by other processes, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.reread)
            try:
                await self.load()
            except psycopg.OperationalError as error:
                logger.warning(
                    "The signing keys could not be read again: %s", error, extra={"action": "signing_keys_stale"}
                )
