"""Data folders that Postgres can serve from, whoever runs the tests."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.folders import copy_folder, data_folder

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres


@pytest.fixture
def empty_folder() -> Iterator[Path]:
    """Gone afterwards, and the Postgres that still serves from it."""
    path = data_folder()
    yield path
    if (path / "postgres" / "postmaster.pid").exists():
        left = EmbeddedPostgres(path)
        left.start()
        left.stop(signal.SIGQUIT)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def folder(empty_folder: Path, cluster: Path) -> Path:
    """The same with a migrated database, which has no operator yet: a start on it makes and migrates none."""
    copy_folder(cluster, empty_folder)
    return empty_folder
