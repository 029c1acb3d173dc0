"""Data folders that Postgres can use, whichever user runs the tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.folders import copy_folder, data_folder

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres


@pytest.fixture
def empty_folder() -> Iterator[Path]:
    """A new data folder. It is deleted afterwards, and a Postgres that still uses it is stopped."""
    with data_folder() as path:
        yield path
        if (path / "postgres" / "postmaster.pid").exists():
            left = EmbeddedPostgres(path)
            left.start()
            left.stop(signal.SIGQUIT)


@pytest.fixture
def folder(empty_folder: Path, cluster: Path) -> Path:
    """A data folder with a migrated database without operators, so that a start is fast."""
    copy_folder(cluster, empty_folder)
    return empty_folder
