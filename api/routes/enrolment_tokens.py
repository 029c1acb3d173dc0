"""One-time tokens that enrol agents: admins create them, and list and withdraw unused ones."""

from __future__ import annotations

import secrets
from typing import Annotated
from uuid import UUID

from msgspec import Meta
from psycopg.rows import DictRow

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Answer, Body, NoBody, Time
from onsembl.api.http.problems import found
from onsembl.protocol.field_types import NO_NUL
from onsembl.protocol.states import Role
from onsembl.sql import audit, enrolment


class NewEnrolmentToken(Body, frozen=True, kw_only=True):
    """A one-time token to enrol an agent whose name matches a glob pattern. It expires after `expires_in` seconds."""

    name_pattern: Annotated[str, Meta(min_length=1, max_length=64, pattern=NO_NUL)] = "*"
    expires_in: Annotated[int, Meta(ge=60, le=30 * 24 * 3600)] = 3600


class EnrolmentToken(Answer, frozen=True, kw_only=True):
    """A new one-time token. It is shown only once."""

    id: UUID
    token: str
    name_pattern: str
    expires_at: Time


class UnusedEnrolmentToken(Answer, frozen=True, kw_only=True):
    """An unused one-time token, without the token itself."""

    id: UUID
    name_pattern: str
    created_by_name: str
    created_at: Time
    expires_at: Time


class UnusedEnrolmentTokens(Answer, frozen=True, kw_only=True):
    """Unused one-time tokens, newest first."""

    tokens: list[UnusedEnrolmentToken]


async def create_enrolment_token(call: Call[NewEnrolmentToken]) -> EnrolmentToken:
    token = "one_" + secrets.token_urlsafe(32)
    body = call.body
    async with call.services.pool.connection() as conn:
        row = await enrolment.add_token(conn, token, body.name_pattern, body.expires_in, call.signed_in.id)
        await audit.write(conn, _event(call, "enrolment_token.created", row))
    return EnrolmentToken(id=row["id"], token=token, name_pattern=row["name_pattern"], expires_at=row["expires_at"])


async def list_enrolment_tokens(call: Call[NoBody]) -> dict[str, list[DictRow]]:
    async with call.services.pool.connection() as conn:
        return {"tokens": await enrolment.unused(conn)}


async def withdraw_enrolment_token(call: Call[NoBody]) -> DictRow:
    async with call.services.pool.connection() as conn:
        row = found(await enrolment.withdraw(conn, call.id("token_id")), "unused enrolment token")
        await audit.write(conn, _event(call, "enrolment_token.withdrawn", row))
    return row


def _event(call: Call[NewEnrolmentToken] | Call[NoBody], action: str, row: DictRow) -> audit.Event:
    return audit.Event(
        actor=call.actor,
        action=action,
        target_kind="enrolment_token",
        target_id=str(row["id"]),
        detail={"name_pattern": row["name_pattern"]},
    )


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/v1/enrolment-tokens",
        handler=create_enrolment_token,
        summary="Create a one-time token that enrols an agent",
        answer=EnrolmentToken,
        role=Role.ADMIN,
        body=NewEnrolmentToken,
        status=201,
    ),
    Endpoint(
        method="GET",
        path="/v1/enrolment-tokens",
        handler=list_enrolment_tokens,
        summary="List unused one-time tokens, newest first, without the tokens themselves",
        answer=UnusedEnrolmentTokens,
        role=Role.ADMIN,
    ),
    Endpoint(
        method="DELETE",
        path="/v1/enrolment-tokens/{token_id:uuid}",
        handler=withdraw_enrolment_token,
        summary="Withdraw an unused one-time token",
        answer=UnusedEnrolmentToken,
        role=Role.ADMIN,
        problems=(404,),
    ),
]
