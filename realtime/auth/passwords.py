"""Password hashes: Argon2id, computed in threads, a few at a time since each takes tens of megabytes."""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

AT_ONCE = 2

_hasher = PasswordHasher()
_room = asyncio.Semaphore(AT_ONCE)
_nobody = _hasher.hash("no such user")
"""What the password of an unknown address is compared with, so that it takes as long as that of a known one."""


async def hash_password(password: str) -> str:
    """A hash to keep."""
    async with _room:
        return await asyncio.to_thread(_hasher.hash, password)


async def password_fits(password: str, password_hash: str | None) -> bool:
    """Whether it is the password of this hash; None is the hash of nobody."""
    async with _room:
        fits = await asyncio.to_thread(_verify, password, password_hash or _nobody)
    return fits and password_hash is not None


def needs_rehash(password_hash: str) -> bool:
    """Whether today's parameters are stronger than those it was made with."""
    return _hasher.check_needs_rehash(password_hash)


def _verify(password: str, password_hash: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
