"""Access tokens of operators: valid tokens are accepted, others are rejected."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from onsembl.api.auth import operator_tokens
from onsembl.api.auth.introspected_tokens import IntrospectedTokens
from onsembl.api.auth.operator_tokens import OperatorTokens
from onsembl.api.auth.rate_limits import Allowance, RateLimiter, RateLimits
from onsembl.api.auth.shared_failures import SharedFailures
from onsembl.api.http.problems import Problem
from onsembl.protocol.states import Role
from onsembl.realtime.tokens import SigningKey

pytestmark = pytest.mark.no_worker

ISSUER = "https://project.example/auth/v1"
SUBJECT = str(uuid4())
HERE = "192.0.2.1"


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    whole = {
        "iss": ISSUER,
        "aud": "authenticated",
        "sub": SUBJECT,
        "role": "authenticated",
        "email": "a@example.org",
        "exp": now + 60,
        "iat": now,
        "session_id": "s",
        "app_metadata": {"role": "operator"},
    }
    return {name: value for name, value in {**whole, **changes}.items() if value is not None}


class Issuer:
    """Publishes keys and counts the requests for them."""

    def __init__(self) -> None:
        self.keys = [SigningKey.new()]
        self.asked = 0
        self.down = False

    async def jwks(self) -> dict[str, Any]:
        self.asked += 1
        if self.down:
            raise httpx.ConnectError("no")
        return {"keys": [key.jwk() for key in self.keys]}

    def sign(self, key: SigningKey | None = None, **changes: Any) -> str:
        key = key or self.keys[0]
        return jwt.encode(claims(**changes), key.private, algorithm="ES256", headers={"kid": key.kid})


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def tokens(issuer: Issuer) -> OperatorTokens:
    return OperatorTokens(ISSUER, issuer.jwks)


async def refused(tokens: OperatorTokens, token: str) -> int:
    with pytest.raises(Problem) as problem:
        await tokens.verify(token, HERE)
    return problem.value.status


async def test_a_good_token_names_its_operator(tokens, issuer):
    """A valid token has the operator's id, address and role in its claims; the keys are fetched once."""
    for _ in range(3):
        operator = await tokens.verify(issuer.sign(), HERE)
    assert (str(operator.id), operator.email, operator.role) == (SUBJECT, "a@example.org", Role.OPERATOR)
    assert issuer.asked == 1


async def test_a_token_that_was_good_ends_with_its_time(tokens, issuer, monkeypatch):
    """A token whose verification is cached is rejected after its expiry."""
    token = issuer.sign()
    await tokens.verify(token, HERE)
    monkeypatch.setattr(operator_tokens, "LEEWAY_SECONDS", -120.0)  # two minutes later
    assert await refused(tokens, token) == 401


async def test_a_token_that_was_good_ends_with_its_key(tokens, issuer, monkeypatch):
    """A token whose verification is cached is rejected once the issuer no longer publishes its key."""
    token = issuer.sign()
    await tokens.verify(token, HERE)
    issuer.keys = [SigningKey.new()]
    monkeypatch.setattr(operator_tokens, "KEYS_CACHE_SECONDS", 0.0)
    assert await refused(tokens, token) == 401


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example/auth/v1"},
        {"aud": "somebody"},
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"sub": None},
        {"sub": "not-a-uuid"},
        {"role": None},
    ],
)
async def test_claims_that_are_not_right_are_refused(tokens, issuer, changes):
    """A token is rejected if its issuer or audience is wrong, its expiry has passed or its subject is invalid."""
    assert await refused(tokens, issuer.sign(**changes)) == 401


@pytest.mark.parametrize("role", ["root", "", None, 7, ["admin"]])
async def test_a_role_that_is_not_ours_is_none(tokens, issuer, role):
    """A token with an unknown role is accepted, and its holder has no rights."""
    assert (await tokens.verify(issuer.sign(app_metadata={"role": role}), HERE)).role is None


async def test_signatures_of_others_are_refused(tokens, issuer):
    """A token is rejected if a foreign key signed it under a known id, without an algorithm, or with a public key as
    shared secret."""
    foreign = SigningKey.new()
    assert await refused(tokens, issuer.sign(foreign)) == 401
    disguised = SigningKey(issuer.keys[0].kid, foreign.private)
    assert await refused(tokens, issuer.sign(disguised)) == 401
    kid = {"kid": issuer.keys[0].kid}
    assert await refused(tokens, jwt.encode(claims(), None, algorithm="none", headers=kid)) == 401
    assert await refused(tokens, jwt.encode(claims(), "x" * 64, algorithm="HS256", headers=kid)) == 401
    key = rsa.generate_private_key(65537, 2048)
    assert await refused(tokens, jwt.encode(claims(), key, algorithm="RS256", headers=kid)) == 401
    other_curve = ec.generate_private_key(ec.SECP384R1())
    assert await refused(tokens, jwt.encode(claims(), other_curve, algorithm="ES384", headers=kid)) == 401
    for nonsense in ("", "a.b.c", "x" * 5000):
        assert await refused(tokens, nonsense) == 401


async def test_a_new_key_is_found_without_a_restart_and_not_hammered_for(tokens, issuer, monkeypatch):
    """An unknown key id causes a read of the keys, but not for every such token."""
    await tokens.verify(issuer.sign(), HERE)
    new = SigningKey.new()
    assert await refused(tokens, issuer.sign(new)) == 401
    assert issuer.asked == 1  # Too soon for another read.
    monkeypatch.setattr(operator_tokens, "REFETCH_SECONDS", -1.0)
    issuer.keys.append(new)
    assert (await tokens.verify(issuer.sign(new), HERE)).email == "a@example.org"
    assert issuer.asked == 2


async def test_known_keys_serve_while_the_issuer_is_away(tokens, issuer, monkeypatch):
    """While the sign-in service is down, known keys still verify tokens."""
    await tokens.verify(issuer.sign(), HERE)
    issuer.down = True
    monkeypatch.setattr(operator_tokens, "KEYS_CACHE_SECONDS", -1.0)
    assert (await tokens.verify(issuer.sign(), HERE)).email == "a@example.org"


async def test_tokens_under_a_shared_secret_are_asked_about():
    """A token of a shared secret is accepted or rejected as the issuer answers, and its acceptance is cached for a
    while."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["authorization"].removeprefix("Bearer "))
        assert (str(request.url), request.headers["apikey"]) == (f"{ISSUER}/user", "key")
        if asked[-1] == good:
            return httpx.Response(200, json={"id": SUBJECT, "email": "a@x", "app_metadata": {"role": "admin"}})
        return httpx.Response(403, json={"code": "bad_jwt"})

    good, bad = (jwt.encode(claims(), secret * 32, algorithm="HS256") for secret in ("s", "t"))
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        limiter = RateLimiter(RateLimits(), SharedFailures())
        tokens = OperatorTokens(ISSUER, Issuer().jwks, IntrospectedTokens(client, ISSUER, "key", limiter))
        for _ in range(2):
            # The current role of the issuer counts, not the role in an older token.
            assert (await tokens.verify(good, HERE)).role is Role.ADMIN
        assert asked == [good]
        assert await refused(tokens, bad) == 401


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(403, text="<html>blocked</html>"),
        httpx.Response(401, json={"message": "No API key found in request"}),
        httpx.Response(404, json={"error_code": "bad_jwt"}),
        httpx.Response(200, text="not JSON"),
        httpx.Response(200, json=[]),
        httpx.Response(500),
    ],
)
async def test_only_the_issuers_own_rejection_rejects_a_token(answer):
    """An answer of a gateway or a proxy in between says nothing of the token: it may be tried again."""
    token = jwt.encode(claims(), "s" * 32, algorithm="HS256")
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer)) as client:
        introspected = IntrospectedTokens(client, ISSUER, "key", RateLimiter(RateLimits(), SharedFailures()))
        assert await refused(OperatorTokens(ISSUER, Issuer().jwks, introspected), token) == 503


async def test_an_address_whose_tokens_are_not_accepted_makes_nobody_ask_on_and_on():
    """Introspections of rejected tokens are limited per address; tokens with wrong claims cause none, and valid tokens
    of other addresses are accepted."""
    asked: list[str] = []
    good = jwt.encode(claims(), "s" * 32, algorithm="HS256")

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["authorization"].removeprefix("Bearer "))
        if asked[-1] == good:
            return httpx.Response(200, json={"id": SUBJECT, "email": "a@x", "app_metadata": {"role": "admin"}})
        return httpx.Response(403, json={"code": "bad_jwt"})

    def forged(**changes: Any) -> str:
        return jwt.encode(claims(jti=str(uuid4()), **changes), "t" * 32, algorithm="HS256")

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        rate_limiter = RateLimiter(RateLimits(address_introspections=Allowance(3, 1000.0)), SharedFailures())
        tokens = OperatorTokens(ISSUER, Issuer().jwks, IntrospectedTokens(client, ISSUER, "key", rate_limiter))
        for changes in ({"aud": "somebody"}, {"iss": "https://other.example/auth/v1"}, {"exp": 1}, {"sub": None}):
            assert await refused(tokens, forged(**changes)) == 401
        assert asked == []
        assert [await refused(tokens, forged()) for _ in range(5)] == [401, 401, 401, 429, 429]
        assert len(asked) == 3
        assert (await tokens.verify(good, "192.0.2.2")).role is Role.ADMIN
