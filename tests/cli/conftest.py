"""A data folder that Postgres can serve from, whoever runs the tests."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from onsembl.cli.embedded_postgres import EmbeddedPostgres


@pytest.fixture
def folder() -> Iterator[Path]:
    """Gone afterwards, and whatever still serves it."""
    # Not `tmp_path`: as root, Postgres runs as another user, who must be able to get there.
    path = Path(tempfile.mkdtemp(prefix="onsembl-up-"))
    path.chmod(0o755)
    yield path
    if (path / "postgres" / "postmaster.pid").exists():
        left = EmbeddedPostgres(path)
        left.start()
        left.stop(signal.SIGQUIT)
    shutil.rmtree(path, ignore_errors=True)
