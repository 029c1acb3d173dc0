"""Password hashes: Argon2id, computed in a few threads, since each computation takes tens of megabytes."""

from __future__ import annotations

import asyncio
import functools
import secrets
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION  # pyright: ignore[reportUnknownVariableType]

from onsembl.realtime.auth.errors import TooManyAttempts

P = ParamSpec("P")
T = TypeVar("T")
RETRY_SECONDS = 5.0
"""After this long a client may retry when too many passwords wait."""


class Passwords:
    """Hashes and compares passwords in `threads` threads; rejects the next one while `queued` others wait."""

    def __init__(self, hasher: PasswordHasher | None = None, *, threads: int = 2, queued: int = 64) -> None:
        self._hasher = hasher or PasswordHasher()
        self._dummy_hash = _dummy_hash(self._hasher)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._free = threads + queued

    async def hash(self, password: str) -> str:
        """A hash to store. Raises TooManyAttempts."""
        return await self._in_thread(self._hasher.hash, password)

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Whether the password is that of the hash. None is for an unknown user and takes as long as a hash. Raises
        TooManyAttempts."""
        matches = await self._in_thread(self._verify, password, password_hash)
        return matches and password_hash is not None

    def needs_rehash(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than the present ones."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._free == 0:
            raise TooManyAttempts(RETRY_SECONDS)
        self._free -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, functools.partial(work, *args, **kwargs)
            )
        finally:
            self._free += 1

    def _verify(self, password: str, password_hash: str | None) -> bool:
        try:
            return self._hasher.verify(password_hash or self._dummy_hash, password)
        except (VerificationError, InvalidHashError):
            return False


def _dummy_hash(hasher: PasswordHasher) -> str:
    """A hash that no password matches and that takes as long to compare as the hasher's own."""
    salt, digest = (
        b64encode(secrets.token_bytes(length)).decode().rstrip("=") for length in (hasher.salt_len, hasher.hash_len)
    )
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2{hasher.type.name.lower()}$v={ARGON2_VERSION}${cost}${salt}${digest}"


async def hash_password(password: str) -> str:
    """A hash to store, for a caller that makes only a few."""
    return await asyncio.to_thread(PasswordHasher().hash, password)
