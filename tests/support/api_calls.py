"""An operator's calls of the REST API, and their entries in the audit log."""

from __future__ import annotations

from support.agents import Operator
from support.server import Api

from onsembl.sql.database import connect


async def call_api(
    operator: Operator, method: str, path: str, body: dict | None = None, status: int = 200, **headers: str
):
    """Send a request that must be answered with `status`, and return the answer."""
    response = await operator.api.http.request(method, path, json=body, headers={**operator.headers, **headers})
    assert response.status_code == status, response.text
    return response.json()


async def audit_entries(api: Api, prefix: str) -> list[tuple[str, dict]]:
    """Action and detail of each entry whose action begins with the prefix."""
    async with await connect(api.database_url) as conn:
        cursor = await conn.execute("select action, detail from audit where action like %s order by id", [prefix])
        return [(row["action"], row["detail"]) for row in await cursor.fetchall()]
