"""Password hashes, computed in threads."""

from __future__ import annotations

import asyncio
import threading

import pytest
from argon2 import PasswordHasher, extract_parameters

from onsembl.realtime.auth.errors import TooManyAttempts
from onsembl.realtime.auth.passwords import Passwords, hash_password


async def test_a_hash_matches_only_its_password() -> None:
    """A hash matches its own password only, and no password matches an unknown user."""
    passwords = Passwords()
    kept = await hash_password("correct")
    assert kept.startswith("$argon2id$")
    assert await passwords.matches("correct", kept)
    assert not await passwords.matches("wrong", kept)
    assert not await passwords.matches("nobody's password", None)
    assert not await passwords.matches("correct", "not a hash")
    assert not passwords.needs_rehash(kept)
    passwords.close()


class Counting(PasswordHasher):
    """Counts, and holds the threads until it is released."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.release = threading.Event()
        self.running = 0
        self.most = 0
        self.verified: list[str] = []
        self._lock = threading.Lock()

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.verified.append(str(hash))
        self.release.wait(20)
        with self._lock:
            self.running -= 1
        return super().verify(hash, password)


async def test_an_unknown_user_costs_one_comparison_like_a_known_one() -> None:
    """For a known and an unknown user one hash of the same cost is compared, so the time does not tell them apart."""
    hasher = Counting()
    hasher.release.set()
    passwords = Passwords(hasher)
    known = await passwords.hash("correct")
    await passwords.matches("wrong", known)
    await passwords.matches("wrong", None)
    assert len(hasher.verified) == 2
    parameters = [extract_parameters(kept) for kept in hasher.verified]
    assert parameters[0] == parameters[1]
    passwords.close()


async def test_passwords_beyond_the_queue_are_rejected() -> None:
    """Two passwords are compared, two wait, and the fifth is rejected."""
    hasher = Counting()
    passwords = Passwords(hasher, threads=2, queued=2)
    kept = hasher.hash("correct")
    waiting = [asyncio.create_task(passwords.matches("correct", kept)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyAttempts):
        await passwords.matches("correct", kept)
    hasher.release.set()
    assert await asyncio.gather(*waiting) == [True] * 4
    assert hasher.most <= 2
    assert await passwords.matches("correct", kept)
    passwords.close()
