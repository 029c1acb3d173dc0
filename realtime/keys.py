"""The API keys of a project: which caller of the stand-in is a page, and which may do anything.

A key is `sb_publishable_` or `sb_secret_`, 22 random characters, `_`, and 8 that check the rest.
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


def new_key(prefix: Prefix) -> str:
    """A fresh key."""
    random = _characters(secrets.token_bytes(17))[:22]
    return f"{prefix}{random}_{_checksum(prefix + random)}"


def is_well_formed(key: str) -> bool:
    """Whether the key's last characters fit the rest: a mistyped key is told from a foreign one."""
    body, _, checksum = key.rpartition("_")
    return body.startswith((PUBLISHABLE, SECRET)) and hmac.compare_digest(_checksum(body), checksum)


def _checksum(body: str) -> str:
    return _characters(hashlib.sha256(f"onsembl|{body}".encode()).digest())[:8]


def _characters(data: bytes) -> str:
    # `-` and `_` would look like separators.
    return base64.b64encode(data, altchars=b"AB").decode().rstrip("=")


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
