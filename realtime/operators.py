"""Who may sign in to the dashboard: one protocol, whether a hosted project keeps the users or the stand-in does.

OperatorError
├── OperatorExists
├── NoSuchOperator
└── OperatorRejected       the service did not take it: a weak password, a bad address, a wrong key
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from onsembl.protocol.states import Role


class OperatorError(Exception):
    """The text is for the person who asked."""


class OperatorExists(OperatorError):
    """There is one with this address."""

    def __init__(self, email: str) -> None:
        super().__init__(f"There is already a user with the address {email}.")


class NoSuchOperator(OperatorError):
    """There is none with this address."""

    def __init__(self, email: str) -> None:
        super().__init__(f"There is no user with the address {email}.")


class OperatorRejected(OperatorError):
    """The service's own reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAccount:
    """A user of the project; `role` is None for one who may sign in and see nothing."""

    id: UUID
    email: str
    role: Role | None
    disabled: bool
    created_at: datetime
    last_sign_in_at: datetime | None


class OperatorDirectory(Protocol):
    """`onsembl operator add|list|disable`. Every method raises OperatorError."""

    async def add(self, email: str, password: str, role: Role) -> OperatorAccount:
        """A new operator, who can sign in at once."""
        ...

    async def list(self) -> list[OperatorAccount]:
        """All of them, by address."""
        ...

    async def set_role(self, email: str, role: Role) -> OperatorAccount:
        """Another role; access tokens carry the old one until they are refreshed."""
        ...

    async def disable(self, email: str) -> OperatorAccount:
        """Refuse sign-in and refresh from now on. An access token goes on until its end, an hour at most."""
        ...

    async def enable(self, email: str) -> OperatorAccount:
        """Undo `disable`."""
        ...


def role_in(app_metadata: object) -> Role | None:
    """The role among ours that the project's admin has given."""
    role: object = app_metadata.get("role") if isinstance(app_metadata, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return Role(role) if isinstance(role, str) and role in list(Role) else None
