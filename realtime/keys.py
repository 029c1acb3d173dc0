"""The API keys of a project: the publishable key for pages, and the secret key for servers, which may do anything.

A key is `sb_publishable_` or `sb_secret_`, 22 random characters, `_`, and a checksum of 8 characters, all of the
base64url alphabet, as Supabase makes keys since 2025.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Literal

Prefix = Literal["sb_publishable_", "sb_secret_"]
PUBLISHABLE: Prefix = "sb_publishable_"
SECRET: Prefix = "sb_secret_"  # noqa: S105

_RANDOM_BYTES = 16  # 22 characters
_CHECKSUM_CHARACTERS = 8


def new_key(prefix: Prefix) -> str:
    """A new random key."""
    body = prefix + _characters(secrets.token_bytes(_RANDOM_BYTES))
    return f"{body}_{_checksum(body)}"


def is_well_formed(key: str) -> bool:
    """Whether the key's checksum is right. A mistyped key has a wrong one; another project's key has a right one."""
    body, separator, checksum = key[:-9], key[-9:-8], key[-8:]
    return (
        body.startswith((PUBLISHABLE, SECRET))
        and separator == "_"
        and hmac.compare_digest(_checksum(body).encode(), checksum.encode())
    )


def _checksum(body: str) -> str:
    return _characters(hashlib.sha256(f"onsembl|{body}".encode()).digest())[:_CHECKSUM_CHARACTERS]


def _characters(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class ProjectKeys:
    """The two keys of a project."""

    publishable: str
    secret: str

    def role_of(self, key: str) -> Literal["anon", "service_role"] | None:
        """The database role of a key, as Supabase's gateway maps it; None for a key of another project."""
        if hmac.compare_digest(key.encode(), self.publishable.encode()):
            return "anon"
        if hmac.compare_digest(key.encode(), self.secret.encode()):
            return "service_role"
        return None
