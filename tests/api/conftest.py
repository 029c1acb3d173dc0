"""Fixtures: a running API with a fresh database."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from support.server import Api, Enrolled, running

from onsembl.api.settings import Settings
from onsembl.tasks.worker import WorkerSettings

HEARTBEAT = 600.0
"""Longer than a test: on a busy machine, no ping comes between two messages, and no bare socket that answers none is
closed. Tests of the heartbeat have one of their own."""


@pytest.fixture
def settings(request: pytest.FixtureRequest, database_url: str) -> Settings:
    worker = None if request.node.get_closest_marker("no_worker") else WorkerSettings(dead_after=2.0)
    return Settings(database_url=database_url, public_url="", worker=worker, heartbeat=HEARTBEAT)


@pytest.fixture
async def api(settings: Settings) -> AsyncGenerator[Api]:
    async with running(settings) as api:
        yield api


@pytest.fixture
async def agent(api: Api) -> Enrolled:
    """An enrolled agent named `one`."""
    return await api.enrol("one")
