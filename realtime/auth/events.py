"""What the stand-in's Auth tells the audit log. Never a password, a token or a key."""

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
    "password_changed",
    "user_created",
    "user_changed",
    "user_deleted",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthEvent:
    """`user_id` and `email` are whom it is about; `by_admin` says that the secret key acted, not the user."""

    action: Action
    outcome: Literal["ok", "refused"]
    address: str
    email: str = ""
    user_id: UUID | None = None
    reason: str = ""
    by_admin: bool = False


OnAuthEvent = Callable[[AuthEvent], Awaitable[None]]
OnRefused = Callable[[str, str, str], None]
"""Told of everybody else who is turned away: at which door, why, and where they came from. Anybody can be, any number
of times, so nothing waits for it."""


def ignore_refusals(door: str, reason: str, address: str) -> None:
    """For a project whose refusals nobody counts."""
