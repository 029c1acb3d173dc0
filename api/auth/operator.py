"""What an operator's access token says of its holder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from onsembl.protocol.ids import OperatorId
from onsembl.protocol.states import Role


@dataclass(frozen=True, slots=True)
class Operator:
    """Who is asking, by a token that is good until `expires_at` (Unix time); `role` is None for one with no rights."""

    id: OperatorId
    email: str
    role: Role | None
    session_id: str
    expires_at: float
    kid: str | None = None
    """The key that signed the token; None when its issuer was asked instead."""


def operator_from(claims: Mapping[str, Any], kid: str | None = None) -> Operator:
    """The operator of verified claims. Raises KeyError or ValueError when they are not those of one."""
    return Operator(
        id=OperatorId(UUID(claims["sub"])),
        email=str(claims.get("email") or ""),
        role=_role(claims.get("app_metadata")),
        session_id=str(claims.get("session_id") or ""),
        expires_at=float(claims["exp"]),
        kid=kid,
    )


def _role(app_metadata: object) -> Role | None:
    """`app_metadata` can be set by the project's admin alone; a role that is not one of ours is none."""
    role = cast("Mapping[str, object]", app_metadata).get("role") if isinstance(app_metadata, dict) else None
    return Role(role) if isinstance(role, str) and role in list(Role) else None
