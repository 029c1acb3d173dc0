"""Access tokens of the stand-in."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest

from onsembl.realtime.tokens import AccessTokens, BadToken, SigningKey

ISSUER = "http://127.0.0.1:1/auth/v1"
KEY = SigningKey.new()


def tokens(*keys: SigningKey, lifetime: int = 3600) -> AccessTokens:
    return AccessTokens(ISSUER, lifetime, keys or (KEY,))


def signed(claims: dict[str, Any], key: SigningKey = KEY, **headers: Any) -> str:
    whole = {"iss": ISSUER, "aud": "authenticated", "role": "authenticated", "exp": int(time.time()) + 60, **claims}
    return jwt.encode(
        {name: value for name, value in whole.items() if value is not None},
        key.private,
        "ES256",
        headers={"kid": key.kid, **headers},
    )


def refusal(token: str) -> tuple[str, str]:
    with pytest.raises(BadToken) as caught:
        tokens().verify(token)
    return caught.value.code, caught.value.message


def test_issues_what_the_published_keys_verify() -> None:
    """Any verifier with the JWKS accepts a token: ES256, audience, issuer, times."""
    token, expires_at = tokens().issue({"sub": "x", "role": "authenticated"})
    key = jwt.PyJWKSet.from_dict(tokens().jwks())[KEY.kid]
    claims = jwt.decode(token, key, algorithms=["ES256"], audience="authenticated", issuer=ISSUER)
    assert claims["exp"] == expires_at == claims["iat"] + 3600
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT", "kid": KEY.kid}
    assert tokens().verify(token) == claims


def test_publishes_no_private_key() -> None:
    """The JWKS holds the public half alone."""
    (jwk,) = tokens().jwks()["keys"]
    assert set(jwk) == {"kty", "crv", "x", "y", "kid", "alg", "use", "key_ops"}


def test_a_key_survives_the_database() -> None:
    """A key read back signs what the one kept verifies."""
    again = SigningKey.from_pem(KEY.kid, KEY.pem())
    token, _ = tokens(again).issue({"role": "authenticated"})
    assert tokens().verify(token)["role"] == "authenticated"


def test_every_live_key_verifies_and_the_named_one_signs() -> None:
    """Two keys are live during a rotation; the one named signs."""
    new = SigningKey.new()
    rotated = tokens()
    rotated.use([new, KEY], signing=KEY.kid)
    token, _ = rotated.issue({"role": "authenticated"})
    assert jwt.get_unverified_header(token)["kid"] == KEY.kid
    rotated.use([new, KEY], signing=new.kid)
    newer, _ = rotated.issue({"role": "authenticated"})
    assert jwt.get_unverified_header(newer)["kid"] == new.kid
    assert rotated.verify(token)
    assert rotated.verify(newer)


def test_an_old_token_is_refused_with_its_age() -> None:
    """The text says how many seconds ago it ended, as Realtime's does."""
    code, message = refusal(signed({"exp": int(time.time()) - 100}))
    assert code == "InvalidJWTToken"
    assert message in {f"Token has expired {seconds} seconds ago" for seconds in range(100, 130)}


@pytest.mark.parametrize("missing", ["exp", "role"])
def test_a_token_without_role_or_end_is_refused(missing: str) -> None:
    """Both fields are required, and the text says so."""
    assert refusal(signed({missing: None})) == ("InvalidJWTToken", "Fields `role` and `exp` are required in JWT")


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "sb_publishable_x", "é.é.é", "." * 5])
def test_what_is_no_token_is_refused(text: str) -> None:
    """Anything else than a JWT gets Realtime's text."""
    assert refusal(text) == ("MalformedJWT", "The token provided is not a valid JWT")


@pytest.mark.parametrize("claims", [{"iss": "http://elsewhere/auth/v1"}, {"aud": "anon"}, {"exp": "tomorrow"}])
def test_a_token_for_others_is_refused(claims: dict[str, Any]) -> None:
    """Another issuer or audience, or an end that is no time, is not accepted."""
    assert refusal(signed(claims))[0] == "MalformedJWT"


def test_a_foreign_signature_is_refused() -> None:
    """Neither another key under our id, nor another algorithm, nor a token that names no key."""
    other = SigningKey(KEY.kid, SigningKey.new().private)
    expected = ("JwtSignatureError", "Failed to validate JWT signature")
    assert refusal(signed({}, other)) == expected
    secret = "a shared secret of thirty-two bytes or more"
    claims = {"role": "authenticated", "exp": int(time.time()) + 60}
    assert refusal(jwt.encode(claims, secret, "HS256", headers={"kid": KEY.kid})) == expected
    assert refusal(jwt.encode(claims, secret, "HS256")) == expected
    assert refusal(jwt.encode(claims, None, "none", headers={"kid": KEY.kid})) == expected


def test_an_unknown_key_is_named() -> None:
    """A key id that is not live gets the text with the id."""
    assert refusal(signed({}, kid="nope")) == (
        "JwtSignerError",
        'Failed to generate JWT signer for key ID (kid) "nope", check your JWT secret or JWKS configuration',
    )
