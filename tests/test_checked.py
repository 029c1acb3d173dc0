"""Slow checks run again only when what they check has changed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from support import checked


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """Check the files of a folder; each run adds its result."""
    monkeypatch.setattr(checked, "ROOT", tmp_path)
    kept: dict[str, Any] = {}
    config = SimpleNamespace(cache=SimpleNamespace(get=kept.get, set=kept.__setitem__))

    def run(check, name: str = "some", config: Any = config) -> None:
        checked.check_once(config, name, tmp_path.iterdir(), check)

    return run


def test_a_check_that_passed_runs_again_after_a_change(run, tmp_path):
    """A changed, a new and a removed file are changes; another check has its own result."""
    runs: list[str] = []
    (tmp_path / "a").write_text("1")
    run(lambda: runs.append("first"))
    run(lambda: runs.append("again"))
    run(lambda: runs.append("other"), "other")
    (tmp_path / "a").write_text("2")
    run(lambda: runs.append("changed"))
    (tmp_path / "b").write_text("")
    run(lambda: runs.append("new"))
    (tmp_path / "b").unlink()
    run(lambda: runs.append("removed"))
    assert runs == ["first", "other", "changed", "new", "removed"]


def test_a_check_that_failed_runs_again(run, tmp_path):
    """A failure is not kept."""
    for _ in range(2):
        with pytest.raises(AssertionError, match="wrong"):
            run(fail)


def fail() -> None:
    raise AssertionError("wrong")


def test_another_package_is_a_change(run, tmp_path, monkeypatch):
    """A newer version of an installed package may find more."""
    runs: list[str] = []
    run(lambda: runs.append("first"))
    monkeypatch.setattr(checked.metadata, "distributions", lambda: [SimpleNamespace(name="ruff", version="9")])
    run(lambda: runs.append("newer"))
    assert runs == ["first", "newer"]


def test_without_a_cache_every_check_runs(run):
    """`-p no:cacheprovider` keeps nothing."""
    runs: list[str] = []
    for _ in range(2):
        run(lambda: runs.append("ran"), config=SimpleNamespace())
    assert runs == ["ran", "ran"]
