"""Sign-ins at the built-in Supabase, as the audit log has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.server import PASSWORD

from onsembl.sql.database import connect

pytestmark = pytest.mark.no_worker

if TYPE_CHECKING:
    from .conftest import Api


async def test_a_refresh_is_in_the_audit_log(api: Api) -> None:
    """Each refresh is in the audit log with its user and without the token."""
    email = (await api.operator()).email
    headers = {"apikey": await api.key()}
    signed_in = await api.http.post(
        "/auth/v1/token?grant_type=password", json={"email": email, "password": PASSWORD}, headers=headers
    )
    token = signed_in.json()["refresh_token"]
    refreshed = await api.http.post(
        "/auth/v1/token?grant_type=refresh_token", json={"refresh_token": token}, headers=headers
    )
    assert refreshed.status_code == 200
    async with await connect(api.database_url) as conn:
        cursor = await conn.execute(
            "select actor_name, address, outcome, detail from audit where action = 'operator.refresh'"
        )
        (row,) = await cursor.fetchall()
    assert row == {"actor_name": email, "address": "127.0.0.1", "outcome": "ok", "detail": {}}


async def test_sign_ins_and_failures_are_in_the_audit_log(api: Api) -> None:
    """Each sign-in and each failure is in the audit log with user, address and outcome, and without the password."""
    account = await api.operator()
    refused = await api.http.post(
        "/auth/v1/token?grant_type=password",
        json={"email": account.email, "password": "hunter2 hunter2"},
        headers={"apikey": await api.key()},
    )
    assert refused.status_code == 400
    async with await connect(api.database_url) as conn:
        cursor = await conn.execute(
            "select actor_kind, actor_name, address, outcome, detail, row_to_json(audit)::text as whole"
            " from audit where action = 'operator.sign_in' order by id"
        )
        rows = await cursor.fetchall()
    assert [(row["actor_kind"], row["outcome"]) for row in rows] == [("operator", "ok"), ("anonymous", "refused")]
    assert {row["actor_name"] for row in rows} == {account.email}
    assert {row["address"] for row in rows} == {"127.0.0.1"}
    assert rows[1]["detail"] == {"reason": "wrong email or password"}
    assert not any("hunter2" in row["whole"] for row in rows)
