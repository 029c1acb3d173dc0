"""The start of the built-in Supabase."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from psycopg import conninfo

from onsembl.realtime import builtin

if TYPE_CHECKING:
    from .conftest import ProjectFactory


async def test_the_start_waits_longer_for_a_connection_than_a_sign_in(
    serve_project: ProjectFactory, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the start waits for its first connection, although a sign-in would give up by then."""
    monkeypatch.setattr(builtin, "PATIENCE_SECONDS", 0.5)
    slow = conninfo.make_conninfo(database_url, options="-c post_auth_delay=1")
    async with serve_project(database_url=slow) as project:
        assert (await project.http.get("/auth/v1/.well-known/jwks.json")).status_code == 200
