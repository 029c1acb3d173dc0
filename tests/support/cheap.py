"""Makes cheap what takes long in every process of the tests, and what they do not test: each process of an operator or
an agent, which a test starts with `COMMAND` or `anew`, is as it ships."""

from __future__ import annotations

import asyncio
import functools
import ssl
from types import SimpleNamespace

import uvicorn.server
from argon2 import PasswordHasher
from procrastinate.periodic import PeriodicDeferrer

MAKE_UP_SECONDS = 5
"""How late a starting worker still queues a periodic job."""


def make_cheap() -> None:
    """Hash passwords in microseconds instead of 0.15 s and 64 MiB, and read the certificates of this machine once
    instead of for each HTTP client. A worker that starts makes up for the periodic jobs of the last seconds only,
    instead of the last ten minutes: else nearly every worker runs one, and for ten minutes an hour all of them.
    """
    cheap = functools.partialmethod(PasswordHasher.__init__, time_cost=1, memory_cost=8, parallelism=1)
    PasswordHasher.__init__ = cheap  # type: ignore[method-assign]
    ssl.create_default_context = functools.cache(ssl.create_default_context)
    late = functools.partialmethod(PeriodicDeferrer.__init__, max_delay=MAKE_UP_SECONDS)
    PeriodicDeferrer.__init__ = late  # type: ignore[method-assign]
    sleep = {"sleep": lambda seconds: asyncio.sleep(seconds / 10)}
    uvicorn.server.asyncio = SimpleNamespace(**vars(asyncio) | sleep)  # type: ignore[assignment]
