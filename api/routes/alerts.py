"""Alerts for operators: list and acknowledge them."""

from __future__ import annotations

from uuid import UUID

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Answer, NoBody, Time
from onsembl.api.http.problems import found
from onsembl.protocol.states import Role
from onsembl.sql import alerts, audit


class AlertAnswer(Answer, frozen=True, kw_only=True):
    """An alert for operators: a row of `onsembl.alerts`."""

    id: int
    at: Time
    kind: str
    agent_id: UUID | None
    text: str
    acknowledged_at: Time | None
    acknowledged_by: UUID | None


class Alerts(Answer, frozen=True, kw_only=True):
    """Alerts: unacknowledged ones first, then the latest others."""

    alerts: list[AlertAnswer]


async def list_alerts(call: Call[NoBody]) -> dict[str, object]:
    async with call.services.pool.connection() as conn:
        return {"alerts": await alerts.recent(conn)}


async def acknowledge_alert(call: Call[NoBody]) -> dict[str, object]:
    alert_id: int = call.request.path_params["alert_id"]
    async with call.services.pool.connection() as conn:
        row, changed = await alerts.acknowledge(conn, alert_id, call.signed_in.id)
        alert = found(row, "alert")
        if changed:
            await audit.write(
                conn,
                audit.Event(
                    actor=call.actor, action="alert.acknowledged", target_kind="alert", target_id=str(alert_id)
                ),
            )
    return alert


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/alerts",
        handler=list_alerts,
        summary="List alerts, unacknowledged ones first",
        answer=Alerts,
    ),
    Endpoint(
        method="POST",
        path="/v1/alerts/{alert_id:number}/acknowledge",
        handler=acknowledge_alert,
        summary="Acknowledge an alert",
        answer=AlertAnswer,
        role=Role.OPERATOR,
        problems=(404,),
    ),
]
