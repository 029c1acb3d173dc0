"""Events of the built-in Supabase Auth for the audit log. They hold no password, no token and no key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

Action = Literal[
    "sign_in",
    "refresh",
    "sign_out",
    "sign_up",
    "link_sent",
    "password_changed",
    "user_created",
    "user_changed",
    "user_deleted",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthEvent:
    """One action on the user `user_id` with the address `email`.

    `address` is the client's network address. `by_admin` is true when the caller used the secret key. A wrong password
    has in `counted` the keys under which the rate limit has counted it.
    """

    action: Action
    outcome: Literal["ok", "refused"]
    address: str
    email: str = ""
    user_id: UUID | None = None
    reason: str = ""
    by_admin: bool = False
    counted: tuple[str, ...] = ()


OnAuthEvent = Callable[[AuthEvent], Awaitable[None]]
OnRejected = Callable[[str, str, str], None]
"""Called for each rejected request without an AuthEvent: with the endpoint, the reason and the client's network
address. Anyone can cause any number of these, so no request waits for the call."""


def ignore_rejections(endpoint: str, reason: str, address: str) -> None:
    """Do not count rejected requests."""
