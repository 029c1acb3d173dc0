"""Signing keys: two are live, a key is published before it signs, and every process reloads the keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import jwt
import pytest

from onsembl.realtime.auth.settings import AUTH_ROLE, AuthSettings
from onsembl.realtime.auth.signing_keys import RotationTooSoon, SigningKeys
from onsembl.realtime.tokens import AccessTokens, BadToken
from onsembl.sql.database import Pool, create_pool

CLAIMS = {"role": "authenticated"}


class Process:
    """One of several processes that serve the same project."""

    def __init__(self, pool: Pool, settings: AuthSettings) -> None:
        self.pool = pool
        self.tokens = AccessTokens("http://project.test/auth/v1", 3600)
        self.keys = SigningKeys(pool, self.tokens, settings)

    def issue(self) -> str:
        return self.tokens.issue(CLAIMS)[0]

    def signer(self) -> str:
        return jwt.get_unverified_header(self.issue())["kid"]

    def published(self) -> list[str]:
        return [key["kid"] for key in self.tokens.jwks()["keys"]]

    async def pass_time(self, seconds: float) -> None:
        async with self.pool.connection() as conn:
            await conn.execute(
                "update auth.signing_keys set created_at = created_at - make_interval(secs => %s)", [seconds]
            )
        await self.keys.load()


@pytest.fixture
async def pool(database_url: str) -> AsyncGenerator[Pool]:
    async with create_pool(database_url, role=AUTH_ROLE, max_size=8) as pool:
        yield pool


async def test_processes_that_start_together_have_one_key(pool: Pool) -> None:
    """Processes that start at once create one first key."""
    processes = [Process(pool, AuthSettings()) for _ in range(4)]
    await asyncio.gather(*(process.keys.load() for process in processes))
    assert len({process.signer() for process in processes}) == 1
    assert len(processes[0].published()) == 1


async def test_a_new_key_is_published_before_it_signs(pool: Pool) -> None:
    """The old key signs for thirty seconds more, so that every process has loaded the new key by then."""
    one, two = Process(pool, AuthSettings()), Process(pool, AuthSettings())
    await one.keys.load()
    await two.keys.load()
    old = one.signer()
    await one.pass_time(4000)
    new = await one.keys.rotate()
    assert one.published() == [new, old]
    assert one.signer() == old
    await two.pass_time(31)
    await one.keys.load()
    assert one.signer() == two.signer() == new
    assert one.tokens.verify(two.issue())


async def test_tokens_of_the_old_key_stay_valid(pool: Pool) -> None:
    """A rotation leaves tokens of the old key valid; the next rotation must wait for a token's lifetime."""
    process = Process(pool, AuthSettings(key_publish_seconds=0.0))
    await process.keys.load()
    token = process.issue()
    await process.pass_time(4000)
    await process.keys.rotate()
    assert process.tokens.verify(token)
    with pytest.raises(RotationTooSoon):
        await process.keys.rotate()
    await process.pass_time(3601)
    await process.keys.rotate()
    assert len(process.published()) == 2
    with pytest.raises(BadToken, match="kid"):
        process.tokens.verify(token)


async def test_a_leaked_key_is_revoked_at_once(pool: Pool) -> None:
    """Tokens of a revoked key are rejected here at once, and in another process after its next reload."""
    one, two = (
        Process(pool, AuthSettings(key_reload_seconds=0.01)),
        Process(pool, AuthSettings(key_reload_seconds=0.01)),
    )
    await one.keys.load()
    await two.keys.load()
    token = one.issue()
    reloading = asyncio.create_task(two.keys.reload_repeatedly())
    new = await one.keys.rotate(revoke=True)
    assert one.published() == [new]
    assert one.signer() == new
    with pytest.raises(BadToken):
        one.tokens.verify(token)
    async with asyncio.timeout(20):
        while two.published() != [new]:
            await asyncio.sleep(0.01)
    reloading.cancel()
    await asyncio.gather(reloading, return_exceptions=True)
    assert two.tokens.verify(one.issue())


async def test_keys_stay_in_use_without_a_database(database_url: str) -> None:
    """A process that cannot reload the keys continues with its present keys."""
    async with create_pool(database_url, role=AUTH_ROLE) as pool:
        process = Process(pool, AuthSettings(key_reload_seconds=0.01))
        await process.keys.load()
    reloading = asyncio.create_task(process.keys.reload_repeatedly())
    await asyncio.sleep(0.05)
    assert not reloading.done()
    assert process.tokens.verify(process.issue())
    reloading.cancel()
    await asyncio.gather(reloading, return_exceptions=True)
