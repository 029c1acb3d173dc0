"""Requests of an operator whose answer is looked at, and what the audit log has of them."""

from __future__ import annotations

from support.agents import Operator
from support.server import Api

from onsembl.sql.database import connect


async def ask(operator: Operator, method: str, path: str, body: dict | None = None, status: int = 200, **headers: str):
    response = await operator.api.http.request(method, path, json=body, headers={**operator.headers, **headers})
    assert response.status_code == status, response.text
    return response.json()


async def audited(api: Api, prefix: str) -> list[tuple[str, dict]]:
    async with await connect(api.database_url) as conn:
        cursor = await conn.execute("select action, detail from audit where action like %s order by id", [prefix])
        return [(row["action"], row["detail"]) for row in await cursor.fetchall()]
