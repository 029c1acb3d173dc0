"""Settings of the built-in Supabase Auth."""

from __future__ import annotations

from dataclasses import dataclass, field

from argon2 import PasswordHasher

from onsembl.realtime.auth.mail_server import MailServer

DAY = 24 * 3600.0
AUTH_ROLE = "onsembl_auth"
"""The database role that alone reads and writes the schema `auth`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """Lifetimes and limits, in seconds. The defaults are those of Supabase Auth, where it has the setting."""

    access_token_lifetime: int = 3600
    """Must be well over 90 s: the clients refresh a token that is valid for less than that."""
    refresh_token_reuse_interval: float = 10.0
    """For this long after a refresh, an older refresh token of the session gets the current one."""
    inactivity_timeout: float = 30 * DAY
    """A session that was not refreshed for this long ends."""
    key_publish_seconds: float = 30.0
    """A new signing key is in the JWKS for this long before it signs, so that every process has loaded it by then."""
    key_reload_seconds: float = 10.0
    """Each process reloads the signing keys this often."""
    allow_signup: bool = False
    sign_in_failures: int = 10
    """Failed sign-ins of one address or one account before a sign-in is rejected."""
    sign_in_refill: float = 30.0
    """After this long, one more failed sign-in is allowed."""
    mail_server: MailServer | None = None
    """Sends sign-in links and links to set a new password; without one, neither is offered."""
    link_lifetime: float = 900.0
    code_lifetime: float = 300.0
    """After following a link, a browser has this long to exchange the code for a session."""
    mails: int = 3
    """Links that one account or one address may ask for before a request is rejected."""
    mail_refill: float = 60.0
    """After this long, one more link is sent."""
    hasher: PasswordHasher = field(default_factory=PasswordHasher)
