"""Wrong guesses, counted by all instances together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.agents import until
from support.server import PASSWORD, Api, running

from onsembl.api.auth.rate_limits import Allowance, RateLimits
from onsembl.api.settings import Settings

pytestmark = pytest.mark.no_worker

GUESSES = 3


async def sign_in(api: Api, email: str, password: str) -> int:
    response = await api.http.post(
        "/auth/v1/token?grant_type=password",
        json={"email": email, "password": password},
        headers={"apikey": await api.key()},
    )
    return response.status_code


async def test_more_instances_give_no_more_guesses(settings: Settings):
    """Wrong passwords and wrong codes at one instance count at the other, too; right ones do not."""
    auth = replace(settings.auth, sign_in_failures=GUESSES, sign_in_refill=1000.0)
    limited = replace(settings, auth=auth, limits=RateLimits(user_codes=Allowance(GUESSES, 1000.0)))
    async with running(limited) as here, running(replace(limited, public_url=here.url)) as there:
        admin = await here.operator()
        for _ in range(2 * GUESSES):
            assert await sign_in(here, admin.email, PASSWORD) == 200

        async def code(api: Api, text: str) -> int:
            return (await api.http.get(f"/v1/device/requests/{text}", headers=admin.headers)).status_code

        assert [await code(here, f"BBBB-BBB{letter}") for letter in "BCDF"] == [404, 404, 404, 429]
        assert [await sign_in(here, admin.email, f"guess {number}") for number in range(4)] == [400, 400, 400, 429]

        async def counted() -> bool:  # each was told before it was answered, and comes after the ones before
            buckets = there.services.builtin.sign_in_failures._buckets.values()  # type: ignore[union-attr]
            return [bucket.level > GUESSES - 1 for bucket in buckets] == [True, True]  # of the address, the account

        await until(counted, "the other instance has counted the wrong passwords")
        assert await sign_in(there, admin.email, PASSWORD) == 429
        assert await code(there, "BBBB-BBBG") == 429
