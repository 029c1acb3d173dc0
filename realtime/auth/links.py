"""Links by e-mail of the built-in Supabase Auth: to sign in without a password, and to set a new one.

A link is valid once. A browser that sends a challenge with its request (PKCE) gets a code for the link and exchanges
it with the verifier that it keeps; the link ends with the exchange, so that a mail scanner that follows links first
does no harm. Without a challenge, following the link ends it, and the browser gets the tokens in the fragment of the
address.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from psycopg.rows import DictRow

from onsembl.protocol.rates import LeakyBuckets, network_of
from onsembl.realtime.auth.accounts import valid_email
from onsembl.realtime.auth.errors import AuthError
from onsembl.realtime.auth.events import AuthEvent
from onsembl.realtime.auth.mailer import Mailer
from onsembl.realtime.auth.sessions import Sessions
from onsembl.sql import auth_one_time_tokens, auth_users
from onsembl.sql.auth_one_time_tokens import ChallengeMethod, LinkKind
from onsembl.sql.database import Connection

Challenge = tuple[str, ChallengeMethod]

KINDS: Mapping[str, LinkKind] = {"magiclink": "magiclink", "email": "magiclink", "recovery": "recovery"}
"""The kinds of links by their names in requests."""
SUBJECTS: Mapping[LinkKind, str] = {"magiclink": "Sign in to Onsembl", "recovery": "Set a new password for Onsembl"}
TEXTS: Mapping[LinkKind, str] = {
    "magiclink": "Open this link to sign in to Onsembl:",
    "recovery": "Open this link to set a new password for Onsembl:",
}
MIN_CHALLENGE, MAX_CHALLENGE = 43, 128


@dataclass
class Links:
    """The links of one project. `issuer` is the address of its Auth.

    Only pages of the issuer's origin are led back to: a link with another address leads to the origin itself.
    """

    sessions: Sessions
    mailer: Mailer
    issuer: str
    requests: LeakyBuckets = field(init=False)

    def __post_init__(self) -> None:
        settings = self.sessions.settings
        self.requests = LeakyBuckets(settings.mails, settings.mail_refill)

    def request(self, email: str, kind: LinkKind, redirect_to: str, challenge: Challenge | None, address: str) -> None:
        """Send a link to the user with this e-mail address, if there is one: the caller learns neither by the answer
        nor by its time. Raises AuthError."""
        email = valid_email(email)
        keys = (f"address {network_of(address)}", f"account {email}")
        rejection = self.requests.take(keys, time.monotonic())
        if rejection is not None or self.mailer.is_full:
            wait = int(rejection.wait) + 1 if rejection is not None else 1
            error = AuthError(
                429,
                "over_email_send_rate_limit",
                f"For security purposes, you can only request this after {wait} seconds.",
            )
            error.headers["Retry-After"] = str(wait)
            raise error
        self.mailer.start(lambda: self._compose(email, kind, self._page(redirect_to), challenge, address))

    async def follow(self, token: str, kind: str, redirect_to: str, address: str) -> str:
        """The address to which a link leads, with a code or the tokens, or with the error."""
        page = self._page(redirect_to)
        try:
            async with self.sessions.pool.connection() as conn:
                link = await self._lock(conn, token, kind)
                if link["code_challenge"] is not None:
                    code = secrets.token_urlsafe(32)
                    challenge = (link["code_challenge"], link["code_challenge_method"])
                    lifetime = self.sessions.settings.code_lifetime
                    await auth_one_time_tokens.add_code(conn, link["user_id"], _hash(code), challenge, lifetime)
                    return _with_query(page, code=code)
                user, tokens = await self._sign_in(conn, link)
        except AuthError as error:
            details = {"error": "access_denied", "error_code": error.code, "error_description": error.message}
            return f"{_with_query(page, **details)}#{urlencode(details)}"
        await self._audit(user, address)
        named = ("access_token", "expires_at", "expires_in", "refresh_token", "token_type")
        return f"{page}#{urlencode({**{name: tokens[name] for name in named}, 'type': KINDS[kind]})}"

    async def verify(self, token: str, kind: str, address: str) -> dict[str, Any]:
        """The session for the token of a link. Raises AuthError."""
        async with self.sessions.pool.connection() as conn:
            user, tokens = await self._sign_in(conn, await self._lock(conn, token, kind))
        await self._audit(user, address)
        return tokens

    async def exchange(self, code: str, verifier: str, address: str) -> dict[str, Any]:
        """The session for a code, with the verifier of its challenge. Raises AuthError."""
        async with self.sessions.pool.connection() as conn:
            found = await auth_one_time_tokens.lock(conn, _hash(code), "code")
            if found is None:
                raise AuthError(404, "flow_state_not_found", "invalid flow state, no valid flow state found")
            if not _matches(verifier, (found["code_challenge"], found["code_challenge_method"])):
                raise AuthError(
                    400,
                    "bad_code_verifier",
                    "code challenge does not match previously saved code verifier",
                )
            user, tokens = await self._sign_in(conn, found)
        await self._audit(user, address)
        return tokens

    async def _lock(self, conn: Connection, token: str, kind: str) -> DictRow:
        known = KINDS.get(kind)
        link = await auth_one_time_tokens.lock(conn, _hash(token), known) if known is not None else None
        if link is None:
            raise AuthError(403, "otp_expired", "Email link is invalid or has expired")
        return link

    async def _sign_in(self, conn: Connection, link: DictRow) -> tuple[DictRow, dict[str, Any]]:
        user = await auth_users.signed_in_by_link(conn, link["user_id"])
        if user is None:
            raise AuthError(403, "user_banned", "User is banned")
        await auth_one_time_tokens.revoke(conn, user["id"])
        return user, await self.sessions.begin(conn, user, "otp")

    async def _compose(
        self, email: str, kind: LinkKind, page: str, challenge: Challenge | None, address: str
    ) -> EmailMessage | None:
        settings = self.sessions.settings
        token = ("pkce_" if challenge is not None else "") + secrets.token_urlsafe(32)
        async with self.sessions.pool.connection() as conn:
            user = await auth_users.by_email(conn, email)
            if user is None or user["banned"]:
                return None
            await auth_one_time_tokens.add_link(conn, user["id"], kind, _hash(token), challenge, settings.link_lifetime)
        await self.sessions.on_event(
            AuthEvent(action="link_sent", outcome="ok", address=address, email=email, user_id=user["id"], reason=kind)
        )
        query = urlencode({"token": token, "type": kind, "redirect_to": page})
        message = EmailMessage()
        message["To"] = user["email"]
        message["Subject"] = SUBJECTS[kind]
        message.set_content(
            f"{TEXTS[kind]}\n\n{self.issuer}/verify?{query}\n\n"
            f"It works once, within {round(settings.link_lifetime / 60)} minutes, in the browser that asked for it.\n"
            "If you did not ask for it, ignore this message.\n",
            cte="8bit",
        )
        return message

    def _page(self, redirect_to: str) -> str:
        """The page to lead back to, without fragment."""
        own = urlsplit(self.issuer)
        origin = f"{own.scheme}://{own.netloc}"
        try:
            asked = urlsplit(redirect_to)
        except ValueError:
            return origin
        if (asked.scheme, asked.netloc) != (own.scheme, own.netloc):
            return origin
        return asked._replace(fragment="").geturl()

    async def _audit(self, user: DictRow, address: str) -> None:
        await self.sessions.on_event(
            AuthEvent(
                action="sign_in",
                outcome="ok",
                address=address,
                email=user["email"],
                user_id=UUID(str(user["id"])),
                reason="link by e-mail",
            )
        )


def challenge_of(challenge: str | None, method: str | None) -> Challenge | None:
    """The challenge of a request; None if it has none. Raises AuthError."""
    if not challenge and not method:
        return None
    method = (method or "").lower()
    if not challenge or method not in ("s256", "plain"):
        raise AuthError(400, "validation_failed", "PKCE flow requires code_challenge_method and code_challenge")
    if not MIN_CHALLENGE <= len(challenge) <= MAX_CHALLENGE:
        raise AuthError(
            400,
            "validation_failed",
            f"code challenge has to be between {MIN_CHALLENGE} and {MAX_CHALLENGE} characters",
        )
    return challenge, method


def _matches(verifier: str, challenge: Challenge) -> bool:
    expected, method = challenge
    if method == "s256":
        digest = hashlib.sha256(verifier.encode()).digest()
        verifier = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return hmac.compare_digest(verifier.encode(), expected.encode())


def _with_query(page: str, **more: str) -> str:
    return f"{page}{'&' if urlsplit(page).query else '?'}{urlencode(more)}"


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
