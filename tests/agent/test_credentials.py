"""Credentials on disk: private and whole, or rejected with a way to repair them."""

from __future__ import annotations

import os
import stat

import pytest

from onsembl.agent.enrolment.credentials import FILE_NAME, Credentials, load, save
from onsembl.agent.errors import AgentError


def credentials(token: str = "onr_first") -> Credentials:
    return Credentials(
        server="http://127.0.0.1:1",
        agent_id="an-id",
        name="one",
        kind="shell",
        access_token="access",
        access_expires_at=0.0,
        refresh_token=token,
    )


def test_saved_credentials_are_loaded(tmp_path):
    """Later credentials replace earlier ones."""
    save(tmp_path / "a", credentials())
    save(tmp_path / "a", credentials("onr_second"))
    assert load(tmp_path / "a") == credentials("onr_second")
    assert [path.name for path in (tmp_path / "a").iterdir()] == [FILE_NAME]


def test_only_the_owner_can_read_credentials(tmp_path):
    """This holds with any umask, and with a partial file that a crash left behind."""
    before = os.umask(0)
    try:
        folder = tmp_path / "a"
        folder.mkdir(mode=0o700)
        (folder / (FILE_NAME + ".partial")).touch(mode=0o666)
        save(folder, credentials())
        save(tmp_path / "b", credentials())
    finally:
        os.umask(before)
    for name in ("a", "b"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / name / FILE_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize(("place", "mode"), [("file", 0o640), ("file", 0o604), ("folder", 0o750), ("folder", 0o701)])
def test_looser_permissions_are_rejected(tmp_path, place, mode):
    """The message says how to repair them."""
    save(tmp_path / "a", credentials())
    target = tmp_path / "a" / FILE_NAME if place == "file" else tmp_path / "a"
    target.chmod(mode)
    with pytest.raises(AgentError, match=f"chmod {'600' if place == 'file' else '700'} {target}"):
        load(tmp_path / "a")


def test_missing_and_damaged_credentials_raise_different_errors(tmp_path):
    """Each error says what to do."""
    with pytest.raises(AgentError, match="not enrolled"):
        load(tmp_path / "a")
    save(tmp_path / "a", credentials())
    for content in (b"", b"{}", b"\xff", b'{"server": 1}'):
        (tmp_path / "a" / FILE_NAME).write_bytes(content)
        with pytest.raises(AgentError, match="damaged"):
            load(tmp_path / "a")
    (tmp_path / "a" / FILE_NAME).unlink()
    (tmp_path / "a" / FILE_NAME).mkdir(mode=0o700)
    with pytest.raises(AgentError, match="cannot be read"):
        load(tmp_path / "a")


def test_credentials_are_on_disk_before_the_file_is_renamed(tmp_path, monkeypatch):
    """The content is synced, then renamed, then the folder is synced."""
    acts: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (acts.append("sync"), sync(descriptor))[1])
    monkeypatch.setattr("pathlib.Path.replace", lambda a, b: (acts.append("rename"), replace(a, b))[1])
    save(tmp_path / "a", credentials())
    assert acts == ["sync", "rename", "sync"]
