"""Sign-ins at the stand-in, in the audit log. (A hosted project keeps a log of its own.)"""

from __future__ import annotations

from onsembl.realtime.auth.service import AuthEvent, OnAuthEvent
from onsembl.sql import audit
from onsembl.sql.database import Pool


def audit_sign_ins(pool: Pool) -> OnAuthEvent:
    """What the stand-in calls for each sign-in, refresh refused, and sign-out."""

    async def on_event(event: AuthEvent) -> None:
        kind = "operator" if event.user_id is not None else "anonymous"
        async with pool.connection() as conn:
            await audit.write(
                conn,
                audit.Event(
                    actor=audit.Actor(kind, event.user_id, event.email, event.address),
                    action=f"operator.{event.action}",
                    target_kind="operator",
                    target_id=str(event.user_id or ""),
                    outcome=event.outcome,
                    detail={"reason": event.reason} if event.reason else {},
                ),
            )

    return on_event
