"""A data folder that Postgres can serve from, whoever runs the tests."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.folders import data_folder

from onsembl.cli.embedded_postgres import EmbeddedPostgres


@pytest.fixture
def folder() -> Iterator[Path]:
    """Gone afterwards, and whatever still serves it."""
    path = data_folder()
    yield path
    if (path / "postgres" / "postmaster.pid").exists():
        left = EmbeddedPostgres(path)
        left.start()
        left.stop(signal.SIGQUIT)
    shutil.rmtree(path, ignore_errors=True)
