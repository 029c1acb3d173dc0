"""The demo of `onsembl up --demo`."""

from __future__ import annotations

import signal

import pytest

from onsembl.agent.errors import AgentError
from onsembl.cli.server.demo import Demo


async def test_a_lost_database_is_an_error_of_the_demo_alone(own_postgres, tmp_path):
    """When the database goes away while the demo starts, its start fails with an error that `up` survives."""
    url = own_postgres.url()
    own_postgres.stop(signal.SIGQUIT)
    demo = Demo(tmp_path)
    with pytest.raises(AgentError, match=r"The database has no answer for the agent demo.*: connection"):
        await demo.start("http://127.0.0.1:9", url)
    await demo.stop()
