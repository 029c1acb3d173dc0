"""Access tokens of agents: valid tokens are accepted, forged and expired tokens are rejected."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from psycopg_pool import PoolTimeout
from support.cases import cases
from support.frames import HELLO_TEXT
from websockets.exceptions import InvalidStatus

from onsembl.api.auth import agent_keys
from onsembl.api.auth.agent_keys import AUDIENCE, ISSUER, AgentKeys, UnknownKey

pytestmark = pytest.mark.no_worker


@pytest.fixture
def signed(api):
    """Makes tokens that the server's own key signs, with the claims that a test changes."""
    kid, key = api.services.agent_keys._signing

    def signed(*, by=key, algorithm="ES256", headers=None, **changes) -> str:
        now = time.time()
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": str(uuid4()), "iat": now, "exp": now + 60} | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, by, algorithm, headers={"kid": kid} | (headers or {}))

    return signed


async def refused(api, token: str) -> int:
    agent = await api.enrol(f"agent-{uuid4()}")
    agent.access_token = token
    with pytest.raises(InvalidStatus) as error:
        await api.agent_socket(agent)
    return error.value.response.status_code


@cases(
    "changes",
    [
        {"iss": "https://elsewhere.example/auth/v1"},
        {"iss": None},
        {"aud": "authenticated"},
        {"aud": None},
        {"sub": None},
        {"sub": "not-an-id"},
        {"exp": 1},
        {"exp": None},
        {"iat": None},
        {"nbf": 4_000_000_000},
        {"exp": 4_000_000_000},
    ],
)
async def test_claims_that_are_not_right_are_refused(api, signed, changes):
    """A token of our own key is rejected if its issuer, audience, subject, times or lifetime are wrong."""
    assert await refused(api, signed(**changes)) == 401


async def test_signatures_of_others_are_refused(api, signed):
    """A token is rejected if another key signed it, its key id is unknown or its signature is cut."""
    assert await refused(api, signed(by=ec.generate_private_key(ec.SECP256R1()))) == 401
    assert await refused(api, signed(headers={"kid": "elsewhere"})) == 401
    assert await refused(api, signed().rpartition(".")[0] + ".") == 401


async def test_the_algorithm_is_ours_to_choose(api, signed):
    """`none` and our public key used as a shared secret are rejected, as RFC 8725 §2.1 demands."""
    _, key = api.services.agent_keys._signing
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert await refused(api, signed(by="", algorithm="none")) == 401
    # Built by hand, because the library refuses to make such a token.
    body = signed(by="x" * 32, algorithm="HS256").rpartition(".")[0]
    tag = base64.urlsafe_b64encode(hmac.digest(public, body.encode(), hashlib.sha256)).rstrip(b"=").decode()
    assert await refused(api, f"{body}.{tag}") == 401


class CountedKeys(AgentKeys):
    """Signing keys that count how often they are read from the database."""

    read = 0

    async def _read(self) -> None:
        self.read += 1
        await super()._read()


async def test_many_unknown_keys_make_the_keys_be_read_once(api, signed, monkeypatch):
    """Concurrent unknown key ids cause one read of the keys; a token that comes soon after is rejected without a
    read."""
    monkeypatch.setattr(agent_keys, "RELOAD_SECONDS", 3600.0)
    keys = CountedKeys(api.services.pool, 900.0)
    token = signed(headers={"kid": "elsewhere"})
    for _ in range(2):
        found = await asyncio.gather(*(keys.recognise(token) for _ in range(200)), return_exceptions=True)
        assert [type(error) for error in found] == [UnknownKey] * 200
    assert keys.read == 1
    assert keys.verify(signed()).kid == keys._signing[0]


async def test_keys_that_cannot_be_read_are_no_verdict_on_a_token(api, signed, monkeypatch):
    """If the keys cannot be read, the agent is asked to retry, and its token is not rejected as invalid."""

    async def away() -> None:
        raise PoolTimeout("the database is away")

    monkeypatch.setattr(api.services.agent_keys, "_read", away)
    monkeypatch.setattr(agent_keys, "RELOAD_SECONDS", 0.0)
    assert await refused(api, signed(headers={"kid": "elsewhere"})) == 503


async def test_an_operators_token_is_not_an_agents_nor_the_other_way_round(api):
    """The agents' socket rejects an operator's token, and the API rejects an agent's token."""
    operator, agent = await api.operator(), await api.enrol()
    assert await refused(api, operator.access_token) == 401
    headers = {"Authorization": f"Bearer {agent.access_token}"}
    assert (await api.http.get("/v1/agents", headers=headers)).status_code == 401


async def test_a_good_one_is_taken(api, signed):
    """A valid token is accepted, which shows that the rejections above have their named reason."""
    agent = await api.enrol()
    agent.access_token = signed(sub=agent.id)
    async with api.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
        assert json.loads(await socket.recv())["type"] == "welcome"
