"""How strict the built-in Supabase Auth is. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from argon2 import PasswordHasher

DAY = 24 * 3600.0
AUTH_ROLE = "onsembl_auth"
"""The database role that alone reads and writes the schema `auth`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """The defaults are Supabase's, where it has one.

    `access_token` must be well over 90: the clients refresh when less than that remains. `reuse` is how long after a
    refresh any older token of the session is answered with the one that is good now. `idle` ends a session that was not
    refreshed. `published` is how long a new signing key is shown in the JWKS before it signs, so that every process has
    read it by then; each reads the keys again every `reread`. `hasher` hashes passwords.
    """

    access_token: int = 3600
    reuse: float = 10.0
    idle: float = 30 * DAY
    published: float = 30.0
    reread: float = 10.0
    allow_sign_up: bool = False
    failures: int = 10
    failure_refill: float = 30.0
    hasher: PasswordHasher = field(default_factory=PasswordHasher)
