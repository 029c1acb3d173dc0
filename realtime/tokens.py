"""Access tokens of the built-in Supabase: ES256, signed by keys that are published as a JWKS and can be rotated."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

ALGORITHM = "ES256"
AUDIENCE = "authenticated"


class BadToken(Exception):
    """The token is not valid; `code` and the text are those of Supabase Realtime."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def is_anonymous(claims: Mapping[str, Any]) -> bool:
    """Whether the claims name neither a user nor the secret key: they are those of the public key."""
    return not claims.get("sub") and claims.get("role") != "service_role"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair and its id, which tokens have as `kid`."""

    kid: str
    private: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls) -> SigningKey:
        return cls(secrets.token_hex(8), ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, kid: str, pem: str) -> SigningKey:
        private = serialization.load_pem_private_key(pem.encode(), password=None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        return cls(kid, private)

    def pem(self) -> str:
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    def jwk(self) -> dict[str, Any]:
        """The public half (RFC 7517)."""
        jwk: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(self.private.public_key()))
        return {**jwk, "kid": self.kid, "alg": ALGORITHM, "use": "sig", "key_ops": ["verify"]}


class AccessTokens:
    """Issues and verifies access tokens. Every key verifies; one key signs. `lifetime` is in seconds."""

    def __init__(self, issuer: str, lifetime: int, keys: Sequence[SigningKey] = ()) -> None:
        self.issuer = issuer
        self.lifetime = lifetime
        self.use(keys)

    def use(self, keys: Sequence[SigningKey], signing: str | None = None) -> None:
        """Replace the keys. `signing` is the id of the key that signs; None is the first key."""
        self._keys = {key.kid: key for key in keys}
        self._signing = signing if signing is not None else next(iter(self._keys), None)

    def jwks(self) -> dict[str, Any]:
        """The public keys, for verifiers (RFC 7517)."""
        return {"keys": [key.jwk() for key in self._keys.values()]}

    def issue(self, claims: Mapping[str, Any]) -> tuple[str, int]:
        """A token with these claims, and its expiry (Unix time)."""
        now = int(time.time())
        expires_at = now + self.lifetime
        payload = {**claims, "iss": self.issuer, "aud": AUDIENCE, "iat": now, "exp": expires_at}
        assert self._signing is not None, "there is no key to sign with"
        key = self._keys[self._signing]
        return jwt.encode(payload, key.private, algorithm=ALGORITHM, headers={"kid": key.kid}), expires_at

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a valid token. Raises BadToken."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key_of(token).private.public_key(),
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=self.issuer,
                # The expiry is checked below, for its text. A check of `iat` would reject a clock slightly ahead.
                options={"require": ["exp", "role"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.MissingRequiredClaimError as error:
            raise BadToken("InvalidJWTToken", "Fields `role` and `exp` are required in JWT") from error
        except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError) as error:
            raise BadToken("JwtSignatureError", "Failed to validate JWT signature") from error
        except jwt.PyJWTError as error:
            raise BadToken("MalformedJWT", "The token provided is not a valid JWT") from error
        if not isinstance(claims["exp"], int | float):
            raise BadToken("MalformedJWT", "The token provided is not a valid JWT")
        age = time.time() - claims["exp"]
        if age >= 0:
            raise BadToken("InvalidJWTToken", f"Token has expired {int(age)} seconds ago")
        return claims

    def _key_of(self, token: str) -> SigningKey:
        kid = jwt.get_unverified_header(token).get("kid")
        if kid is None:
            raise BadToken("JwtSignatureError", "Failed to validate JWT signature")
        if kid not in self._keys:
            raise BadToken(
                "JwtSignerError",
                f'Failed to generate JWT signer for key ID (kid) "{kid}", check your JWT secret or JWKS configuration',
            )
        return self._keys[kid]
