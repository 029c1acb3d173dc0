"""The log of the embedded Postgres is private and bounded."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from onsembl.cli.server import postgres_log
from onsembl.cli.server.postgres_log import PostgresLog


def test_a_large_log_is_rotated_under_a_writer(tmp_path: Path):
    """The earlier lines are in the second file, and a writer in append mode goes on in the first; both are private."""
    log = PostgresLog(tmp_path / "postgres.log", max_bytes=100)
    log.path.touch(0o644)
    log.prepare(None)
    with log.path.open("a") as writer:
        for number in range(33):
            writer.write(f"line {number:05d}\n")
            writer.flush()
            log.rotate()
    assert log.earlier.read_text().splitlines()[-1] == "line 00029"
    assert log.path.read_text().splitlines() == ["line 00030", "line 00031", "line 00032"]
    assert log.tail().endswith("line 00032")
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_a_log_that_cannot_be_copied_is_still_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On a full disk the log does not grow, and no half copy stays."""

    def full(_source: object, _target: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(postgres_log.shutil, "copyfileobj", full)
    log = PostgresLog(tmp_path / "postgres.log", max_bytes=1)
    log.path.write_text("line\n")
    with pytest.raises(OSError, match="No space left"):
        log.rotate()
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("postgres.log", 0)]
