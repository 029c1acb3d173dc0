"""The `audit` table: who did what to what, from where, and how it ended. Rows are added, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from onsembl.sql.audit_actions import ACTIONS
from onsembl.sql.database import Connection


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted, and the network address they acted from."""

    kind: Literal["operator", "agent", "system", "anonymous"]
    id: UUID | None = None
    name: str = ""
    address: str = ""


SYSTEM = Actor("system", name="system")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the log. Raises ValueError for an action that is not in `ACTIONS`."""

    actor: Actor
    action: str
    target_kind: str = ""
    target_id: str = ""
    outcome: Literal["ok", "refused", "failed"] = "ok"
    detail: Mapping[str, object] = field(default_factory=dict[str, object])

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"{self.action!r} is no action of the audit log: add it to sql/audit_actions.py")


async def write(conn: Connection, event: Event) -> None:
    """Add an event, in the transaction of what it tells of."""
    await conn.execute(
        """insert into audit
               (actor_kind, actor_id, actor_name, address, action, target_kind, target_id, outcome, detail)
           values (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        [
            event.actor.kind,
            event.actor.id,
            event.actor.name,
            event.actor.address,
            event.action,
            event.target_kind,
            event.target_id,
            event.outcome,
            Jsonb(dict(event.detail)),
        ],
    )
