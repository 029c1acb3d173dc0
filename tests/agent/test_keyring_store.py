"""Credentials in the system's keyring, for which a backend in memory stands."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import keyring
import msgspec
import pytest
from click.testing import CliRunner
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.errors import PasswordDeleteError, PasswordSetError

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment import keyring_store
from onsembl.agent.enrolment.credentials import Credentials
from onsembl.agent.errors import AgentError
from onsembl.cli.agent import agent


class Ring(KeyringBackend):
    """Keeps passwords in memory."""

    priority = 5  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.broken = False

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.broken:
            raise PasswordSetError("it is locked")
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.broken:
            raise PasswordDeleteError("it is locked")
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError("there is none")


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Ring:
    monkeypatch.delenv("ONSEMBL_KEYRING")
    ring = Ring()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(NoKeyring())


def made(number: int) -> Credentials:
    return Credentials(
        server="https://onsembl.example.org",
        agent_id="an-id",
        name="one",
        kind="shell",
        access_token=f"access-{number}",
        access_expires_at=time.time() + 900,
        refresh_token=f"refresh-{number}",
    )


def test_a_keyring_keeps_the_credentials_and_the_file_does_not(ring, tmp_path):
    """They are saved, rotated and loaded; when they are erased, keyring and file are empty."""
    for number in (1, 2):
        store.save(tmp_path / "one", made(number))
        assert "refresh" not in (tmp_path / "one" / store.FILE_NAME).read_text()
        assert store.load(tmp_path / "one").refresh_token == f"refresh-{number}"
    store.erase(tmp_path / "one")
    assert ring.kept == {}
    with pytest.raises(AgentError, match="not enrolled"):
        store.load(tmp_path / "one")


def test_credentials_stay_in_a_file(ring, tmp_path, monkeypatch):
    """An agent that was enrolled without a keyring does not move to one later."""
    monkeypatch.setenv(keyring_store.SWITCH, "off")
    store.save(tmp_path / "one", made(1))
    monkeypatch.delenv(keyring_store.SWITCH)
    store.save(tmp_path / "one", made(2))
    assert ring.kept == {}
    assert json.loads((tmp_path / "one" / store.FILE_NAME).read_text())["refresh_token"] == "refresh-2"


def test_an_unavailable_and_an_empty_keyring_raise_different_errors(ring, tmp_path, monkeypatch):
    """Each error says what to do."""
    store.save(tmp_path / "one", made(1))
    monkeypatch.setenv(keyring_store.SWITCH, "off")
    with pytest.raises(AgentError, match="cannot be used from here"):
        store.load(tmp_path / "one")
    with pytest.raises(OSError, match="cannot be used from here"):
        store.save(tmp_path / "one", made(2))
    monkeypatch.delenv(keyring_store.SWITCH)
    assert store.load(tmp_path / "one").refresh_token == "refresh-1", "the old ones are as they were"
    ring.kept.clear()
    with pytest.raises(AgentError, match="Enrol the agent again"):
        store.load(tmp_path / "one")


def test_a_locked_keyring_raises_oserror(ring, tmp_path):
    """It is reported like a full disk."""
    ring.broken = True
    with pytest.raises(OSError, match="it is locked"):
        store.save(tmp_path / "one", made(1))
    assert not (tmp_path / "one" / store.FILE_NAME).exists()


def test_a_locked_keyring_is_found_before_the_token_is_used(ring, tmp_path):
    """No request reaches the server, and the error is one sentence."""
    ring.broken = True
    enrol = ["enrol", "--server", "http://127.0.0.1:9", "--name", "one", "--kind", "shell", "--token-file", "-"]
    answer = CliRunner().invoke(agent, [*enrol, "--state-dir", str(tmp_path)], input="one_token")
    assert answer.exit_code == 1
    assert "cannot be used: the system's keyring does not store the credentials: it is locked." in answer.output


def test_a_keyring_that_does_not_erase_is_reported(ring, tmp_path):
    """The error of a logout is one sentence."""
    store.save(tmp_path / "one", msgspec.structs.replace(made(1), server="http://127.0.0.1:9"))
    ring.broken = True
    answer = CliRunner().invoke(agent, ["logout", "--name", "one", "--state-dir", str(tmp_path)])
    assert (answer.exit_code, type(answer.exception)) == (1, SystemExit)
    assert "cannot be deleted here: the system's keyring does not erase the credentials: it is locked." in answer.output


def test_checking_a_keyring_changes_nothing(ring, tmp_path):
    """This holds also where it already has credentials."""
    store.save(tmp_path / "one", made(1))
    before = dict(ring.kept)
    store.prepare(tmp_path / "one")
    assert ring.kept == before
    assert [path.name for path in (tmp_path / "one").iterdir()] == [store.FILE_NAME]


def test_a_machine_without_a_keyring_uses_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Servers usually have none."""
    monkeypatch.delenv("ONSEMBL_KEYRING")
    keyring.set_keyring(NoKeyring())
    assert keyring_store.system_keyring() is None
    store.save(tmp_path / "one", made(1))
    assert (tmp_path / "one" / store.FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert store.load(tmp_path / "one").refresh_token == "refresh-1"


def test_without_the_library_there_is_no_keyring(tmp_path: Path):
    """The base package on Linux does not install the library."""
    code = (
        "import sys; sys.modules['keyring'] = None\n"
        "from onsembl.agent.enrolment.keyring_store import system_keyring; assert system_keyring() is None"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
