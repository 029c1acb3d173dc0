"""Password hashes: Argon2id, computed in threads, a few at a time since each takes tens of megabytes."""

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
BUSY_SECONDS = 5.0


class Passwords:
    """Hashes and compares, `at_once` of them; when more than `waiting` wait, the next is refused."""

    def __init__(self, hasher: PasswordHasher | None = None, *, at_once: int = 2, waiting: int = 64) -> None:
        self._hasher = hasher or PasswordHasher()
        self._nobody = _hash_of_nobody(self._hasher)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="argon2")
        self._room = at_once + waiting

    async def hash(self, password: str) -> str:
        """A hash to keep. Raises TooManyAttempts."""
        return await self._in_thread(self._hasher.hash, password)

    async def fits(self, password: str, password_hash: str | None) -> bool:
        """Whether it is the password of this hash. None is the hash of nobody, and takes as long as one of somebody.
        Raises TooManyAttempts."""
        fits = await self._in_thread(self._verify, password, password_hash)
        return fits and password_hash is not None

    def needs_rehash(self, password_hash: str) -> bool:
        """Whether it was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._room == 0:
            raise TooManyAttempts(BUSY_SECONDS)
        self._room -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, functools.partial(work, *args, **kwargs)
            )
        finally:
            self._room += 1

    def _verify(self, password: str, password_hash: str | None) -> bool:
        try:
            return self._hasher.verify(password_hash or self._nobody, password)
        except (VerificationError, InvalidHashError):
            return False


def _hash_of_nobody(hasher: PasswordHasher) -> str:
    """A hash that no password fits, and that takes as long to compare as one that the hasher makes."""
    salt, digest = (
        b64encode(secrets.token_bytes(length)).decode().rstrip("=") for length in (hasher.salt_len, hasher.hash_len)
    )
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2{hasher.type.name.lower()}$v={ARGON2_VERSION}${cost}${salt}${digest}"


async def hash_password(password: str) -> str:
    """A hash to keep, for a caller that makes one now and then."""
    return await asyncio.to_thread(PasswordHasher().hash, password)
