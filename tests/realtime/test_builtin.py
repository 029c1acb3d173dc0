"""The start of the stand-in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from psycopg import conninfo

from onsembl.realtime import builtin

if TYPE_CHECKING:
    from .conftest import ProjectFactory


async def test_it_starts_though_its_first_connection_takes_longer_than_a_sign_in_may(
    serve_project: ProjectFactory, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that is busy; once it serves, a client hears soon that the database does not answer."""
    monkeypatch.setattr(builtin, "PATIENCE_SECONDS", 0.5)
    slow = conninfo.make_conninfo(database_url, options="-c post_auth_delay=1")
    async with serve_project(database_url=slow) as project:
        assert (await project.http.get("/auth/v1/.well-known/jwks.json")).status_code == 200
