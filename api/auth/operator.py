"""The operator that an access token names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from onsembl.protocol.ids import OperatorId
from onsembl.protocol.states import Role


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator, by an access token that is valid until `expires_at` (Unix time). An operator without rights has no
    `role`."""

    id: OperatorId
    email: str
    role: Role | None
    session_id: str
    expires_at: float
    kid: str | None = None
    """The key that the token was signed with; None when the issuer verified the token."""
    second_factor: bool = False
    """Whether the session was begun with a second factor."""


def operator_from(claims: Mapping[str, Any], kid: str | None = None) -> Operator:
    """The operator that verified claims name. Raises KeyError or ValueError when the claims name no operator."""
    return Operator(
        id=OperatorId(UUID(claims["sub"])),
        email=str(claims.get("email") or ""),
        role=_role(claims.get("app_metadata")),
        session_id=str(claims.get("session_id") or ""),
        expires_at=float(claims["exp"]),
        kid=kid,
        second_factor=claims.get("aal") == "aal2",
    )


def _role(app_metadata: object) -> Role | None:
    """The role in `app_metadata`, which only the project's admin can set; None when it is not a known role."""
    role = cast("Mapping[str, object]", app_metadata).get("role") if isinstance(app_metadata, dict) else None
    return Role(role) if isinstance(role, str) and role in list(Role) else None
