"""The API keys of a project: which caller of the stand-in is a page, and which may do anything.

A key is `sb_publishable_` or `sb_secret_`, 22 random characters, `_`, and 8 characters that check the rest, all of
them of the base64url alphabet (as Supabase makes them since 2025).
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
    """A fresh key."""
    body = prefix + _characters(secrets.token_bytes(_RANDOM_BYTES))
    return f"{body}_{_checksum(body)}"


def is_well_formed(key: str) -> bool:
    """Whether the key's last characters fit the rest: a mistyped key is told from a foreign one."""
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
        """The database role that a key stands for, as Supabase's gateway maps it; None for one that is not ours."""
        if hmac.compare_digest(key.encode(), self.publishable.encode()):
            return "anon"
        if hmac.compare_digest(key.encode(), self.secret.encode()):
            return "service_role"
        return None
