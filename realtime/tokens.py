"""Access tokens of the stand-in: ES256, signed by keys that are published as a JWKS and can be rotated."""

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
    """The token is not accepted; `code` and the text are those of Supabase Realtime."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair and the id that tokens name it by."""

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
    """Issues and verifies. The first key signs, every key verifies."""

    def __init__(self, issuer: str, lifetime: int, keys: Sequence[SigningKey]) -> None:
        self.issuer = issuer
        self.lifetime = lifetime
        self.keys = list(keys)

    def jwks(self) -> dict[str, Any]:
        """The public keys, for whoever verifies."""
        return {"keys": [key.jwk() for key in self.keys]}

    def issue(self, claims: Mapping[str, Any]) -> tuple[str, int]:
        """A token with these claims and when it ends (Unix time)."""
        now = int(time.time())
        expires_at = now + self.lifetime
        payload = {**claims, "iss": self.issuer, "aud": AUDIENCE, "iat": now, "exp": expires_at}
        key = self.keys[0]
        return jwt.encode(payload, key.private, algorithm=ALGORITHM, headers={"kid": key.kid}), expires_at

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a good token. Raises BadToken, with the texts of Supabase Realtime."""
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = next((key for key in self.keys if key.kid == kid), None)
            if key is None:
                raise BadToken(
                    "JwtSignerError",
                    f'Failed to generate JWT signer for key ID (kid) "{kid}", '
                    "check your JWT secret or JWKS configuration",
                )
            claims: dict[str, Any] = jwt.decode(
                token,
                key.private.public_key(),
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=self.issuer,
                options={"require": ["exp", "role"], "verify_exp": False},
            )
        except jwt.MissingRequiredClaimError as error:
            raise BadToken("InvalidJWTToken", "Fields `role` and `exp` are required in JWT") from error
        except jwt.InvalidSignatureError as error:
            raise BadToken("JwtSignatureError", "Failed to validate JWT signature") from error
        except jwt.PyJWTError as error:
            raise BadToken("MalformedJWT", "The token provided is not a valid JWT") from error
        past = int(time.time() - float(claims["exp"]))
        if past >= 0:
            raise BadToken("InvalidJWTToken", f"Token has expired {past} seconds ago")
        return claims
