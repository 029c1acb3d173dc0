"""Access tokens of the built-in Supabase."""

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


def rejection(token: str) -> tuple[str, str]:
    with pytest.raises(BadToken) as caught:
        tokens().verify(token)
    return caught.value.code, caught.value.message


def test_the_published_keys_verify_a_token() -> None:
    """A verifier with the JWKS accepts an issued token: ES256, audience, issuer and times are right."""
    token, expires_at = tokens().issue({"sub": "x", "role": "authenticated"})
    key = jwt.PyJWKSet.from_dict(tokens().jwks())[KEY.kid]
    claims = jwt.decode(token, key, algorithms=["ES256"], audience="authenticated", issuer=ISSUER)
    assert claims["exp"] == expires_at == claims["iat"] + 3600
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT", "kid": KEY.kid}
    assert tokens().verify(token) == claims


def test_publishes_no_private_key() -> None:
    """The JWKS has the public half of the key alone."""
    (jwk,) = tokens().jwks()["keys"]
    assert set(jwk) == {"kty", "crv", "x", "y", "kid", "alg", "use", "key_ops"}


def test_a_key_survives_the_database() -> None:
    """A key that was stored and read signs tokens that the original key verifies."""
    again = SigningKey.from_pem(KEY.kid, KEY.pem())
    token, _ = tokens(again).issue({"role": "authenticated"})
    assert tokens().verify(token)["role"] == "authenticated"


def test_every_live_key_verifies_and_the_named_one_signs() -> None:
    """During a rotation both keys verify, and the key named as signing signs."""
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


def test_an_expired_token_is_rejected_with_its_age() -> None:
    """The text of the error says how many seconds ago the token expired, as in Supabase Realtime."""
    code, message = rejection(signed({"exp": int(time.time()) - 100}))
    assert code == "InvalidJWTToken"
    assert message in {f"Token has expired {seconds} seconds ago" for seconds in range(100, 130)}


@pytest.mark.parametrize("missing", ["exp", "role"])
def test_a_token_without_role_or_expiry_is_rejected(missing: str) -> None:
    """A token without `role` or `exp` is rejected, and the text names both."""
    assert rejection(signed({missing: None})) == ("InvalidJWTToken", "Fields `role` and `exp` are required in JWT")


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "sb_publishable_x", "é.é.é", "." * 5])
def test_text_that_is_no_token_is_rejected(text: str) -> None:
    """Text that is no JWT is rejected with Supabase Realtime's text."""
    assert rejection(text) == ("MalformedJWT", "The token provided is not a valid JWT")


@pytest.mark.parametrize("claims", [{"iss": "http://elsewhere/auth/v1"}, {"aud": "anon"}, {"exp": "tomorrow"}])
def test_a_token_for_others_is_rejected(claims: dict[str, Any]) -> None:
    """A token with another issuer or audience, or with an expiry that is no number, is rejected."""
    assert rejection(signed(claims))[0] == "MalformedJWT"


def test_a_foreign_signature_is_rejected() -> None:
    """Another key under our id, another algorithm and a token without a key id are rejected."""
    other = SigningKey(KEY.kid, SigningKey.new().private)
    expected = ("JwtSignatureError", "Failed to validate JWT signature")
    assert rejection(signed({}, other)) == expected
    secret = "a shared secret of thirty-two bytes or more"
    claims = {"role": "authenticated", "exp": int(time.time()) + 60}
    assert rejection(jwt.encode(claims, secret, "HS256", headers={"kid": KEY.kid})) == expected
    assert rejection(jwt.encode(claims, secret, "HS256")) == expected
    assert rejection(jwt.encode(claims, None, "none", headers={"kid": KEY.kid})) == expected


def test_an_unknown_key_is_named() -> None:
    """A token with an unknown key id is rejected with a text that names the id."""
    assert rejection(signed({}, kid="nope")) == (
        "JwtSignerError",
        'Failed to generate JWT signer for key ID (kid) "nope", check your JWT secret or JWKS configuration',
    )
