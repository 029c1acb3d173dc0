"""Audits sign-ins at the built-in Auth, and tells the other instances of wrong passwords. (A hosted project keeps an
audit log and limits of its own.)"""

from __future__ import annotations

from onsembl.api.auth.shared_failures import SharedFailures
from onsembl.realtime.auth.events import AuthEvent, OnAuthEvent
from onsembl.sql import audit
from onsembl.sql.database import Pool


def audit_sign_ins(pool: Pool, failures: SharedFailures) -> OnAuthEvent:
    """The function that the built-in Auth calls for each sign-in, refresh, sign-out and change of a user."""

    async def on_event(event: AuthEvent) -> None:
        if event.by_admin:
            actor = audit.Actor("system", name="secret key", address=event.address)
        else:
            kind = "operator" if event.user_id is not None else "anonymous"
            actor = audit.Actor(kind, event.user_id, event.email, event.address)
        async with pool.connection() as conn:
            if event.counted:
                await failures.tell(conn, "password", event.counted)
            await audit.write(
                conn,
                audit.Event(
                    actor=actor,
                    action=f"operator.{event.action}",
                    target_kind="operator",
                    target_id=str(event.user_id or ""),
                    outcome=event.outcome,
                    detail={
                        **({"reason": event.reason} if event.reason else {}),
                        **({"email": event.email} if event.by_admin else {}),
                    },
                ),
            )

    return on_event
