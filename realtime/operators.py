"""The accounts of operators: one protocol for a hosted Supabase project and for the built-in Supabase.

OperatorError
├── OperatorExists
├── NoSuchOperator
└── OperatorRejected       the service rejected the call: a weak password, a bad email address, a wrong key
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from onsembl.protocol.states import Role


class OperatorError(Exception):
    """An operation on an account failed; the text is for the person who asked for it."""


class OperatorExists(OperatorError):
    """A user with this email address exists."""

    def __init__(self, email: str) -> None:
        super().__init__(f"There is already a user with the address {email}.")


class NoSuchOperator(OperatorError):
    """No user has this email address."""

    def __init__(self, email: str) -> None:
        super().__init__(f"There is no user with the address {email}.")


class OperatorRejected(OperatorError):
    """The service rejected the call; the text is the service's reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAccount:
    """A user of the project. A user with the role None may sign in and sees nothing."""

    id: UUID
    email: str
    role: Role | None
    disabled: bool
    created_at: datetime
    last_sign_in_at: datetime | None


class OperatorDirectory(Protocol):
    """The operations of `onsembl operator`. Every method raises OperatorError."""

    async def add(self, email: str, password: str, role: Role) -> OperatorAccount:
        """Add an operator, who can sign in at once."""
        ...

    async def list(self) -> list[OperatorAccount]:
        """All operators, sorted by email address."""
        ...

    async def set_role(self, email: str, role: Role) -> OperatorAccount:
        """Change the role, from now on with the built-in Supabase. A hosted project is asked within a minute."""
        ...

    async def disable(self, email: str) -> OperatorAccount:
        """Reject sign-in, refresh and, as `set_role`, access tokens from now on."""
        ...

    async def enable(self, email: str) -> OperatorAccount:
        """Undo `disable`."""
        ...


def role_in(app_metadata: object) -> Role | None:
    """The role in a user's `app_metadata`; None when it is not one of ours."""
    role: object = app_metadata.get("role") if isinstance(app_metadata, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return Role(role) if isinstance(role, str) and role in list(Role) else None
