"""Data folders of killed test runs are removed by the next run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support import folders


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where data folders are made."""
    monkeypatch.setattr(folders, "MEMORY", tmp_path)
    monkeypatch.setattr(folders, "MIN_FREE_BYTES", 0)
    return tmp_path


def test_only_what_belongs_to_no_process_is_removed(place: Path) -> None:
    """The folder of a killed process is removed, and the Postgres in it ends; that of a living process stays."""
    with folders.data_folder() as kept:
        abandoned = place / f"{folders.PREFIX}abandoned"
        data = abandoned / "shared" / "postgres"
        data.mkdir(parents=True)
        program = shutil.copy("/bin/sleep", place / "postgres")
        server = subprocess.Popen([program, "1000"], cwd=data)
        folders.remove_abandoned_folders((place,))
        server.wait(30)
        assert not abandoned.exists()
        assert kept.exists()
    assert not kept.exists()


def test_a_folder_that_is_removed_before_it_is_locked_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run may take a folder for abandoned in the moment between its creation and its lock."""
    lock, removed = folders.fcntl.flock, []

    def late(descriptor: int, how: int) -> None:
        if not removed:
            removed.extend(place.iterdir())
            removed[0].rmdir()
        lock(descriptor, how)

    monkeypatch.setattr(folders.fcntl, "flock", late)
    with folders.data_folder() as folder:
        assert folder.exists()
        assert [folder] == list(place.iterdir())
        assert removed != [folder]
