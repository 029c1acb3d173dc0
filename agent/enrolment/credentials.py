"""An agent's credentials on its machine: in the system's keyring where there is one, else in a file that only its owner
can read. With a keyring, the file says only that the credentials are there."""

from __future__ import annotations

import hashlib
import stat
import time
from pathlib import Path

import msgspec

from onsembl.agent.enrolment import keyring_store
from onsembl.agent.errors import AgentError
from onsembl.agent.link.durable import replace_file

FILE_NAME = "credentials.json"
IN_KEYRING = b'{"kept_in":"keyring"}'


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's identity and tokens at one server.

    `access_expires_at` is Unix time by this machine's clock; `access_lifetime` is in seconds.
    """

    server: str
    agent_id: str
    name: str
    kind: str
    access_token: str
    access_expires_at: float
    access_lifetime: float = 900.0
    refresh_token: str
    recovery_secret: str = ""
    """Gets new tokens after the server's database was restored from a backup; empty for agents without one."""

    @property
    def recovery_hash(self) -> str:
        """The SHA-256 hash, in hex, of the recovery secret; empty without one."""
        return hashlib.sha256(self.recovery_secret.encode()).hexdigest() if self.recovery_secret else ""

    def renewed(
        self, access_token: str, expires_in: float, refresh_token: str, recovery_secret: str | None = None
    ) -> Credentials:
        """The same agent with its next pair of tokens, and with another recovery secret if one is given."""
        return msgspec.structs.replace(
            self,
            access_token=access_token,
            access_expires_at=time.time() + expires_in,
            access_lifetime=expires_in,
            refresh_token=refresh_token,
            recovery_secret=recovery_secret or self.recovery_secret,
        )

    def valid_for(self, seconds: float) -> bool:
        """Whether the access token is valid for at least `seconds` from now on."""
        return self.access_expires_at - time.time() > seconds


class NotEnrolled(AgentError):
    """There are no credentials in the agent's folder."""


def read_private(path: Path) -> bytes:
    """The content of a file with a secret. Raises AgentError when others can read it or its folder, and OSError."""
    for place, private in ((path.parent, "700"), (path, "600")):
        mode = stat.S_IMODE(place.stat().st_mode)
        if mode & 0o077:
            raise AgentError(f"{place} is open to others (mode {mode:o}). Mend it with: chmod {private} {place}")
    return path.read_bytes()


def load(folder: Path) -> Credentials:
    """The credentials in an agent's folder. Raises NotEnrolled, or AgentError when others can read them."""
    path = folder / FILE_NAME
    try:
        kept = read_private(path)
        if kept == IN_KEYRING:
            kept = keyring_store.read(folder).encode()
        return msgspec.json.decode(kept, type=Credentials)
    except FileNotFoundError as error:
        raise NotEnrolled(f"This agent is not enrolled: there is no {path}.") from error
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AgentError(f"{path} is damaged ({error}). Enrol the agent again.") from error


def prepare(folder: Path) -> None:
    """Check that credentials can be stored for this folder, before any are issued. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    probe = folder / ".writable"
    probe.touch()
    probe.unlink()
    ring = keyring_store.system_keyring()
    if ring is not None:
        keyring_store.write(ring, probe, "")
        keyring_store.erase(probe)


def save(folder: Path, credentials: Credentials) -> None:
    """Store the credentials, whole or not at all, also when the machine loses power. Raises OSError.

    The first call decides between keyring and file; later credentials are stored in the same place.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, kept = folder / FILE_NAME, msgspec.json.encode(credentials)
    known = path.read_bytes() if path.exists() else None
    ring = keyring_store.system_keyring() if known in (None, IN_KEYRING) else None
    if ring is not None:
        keyring_store.write(ring, folder, kept.decode())
        kept = IN_KEYRING
    elif known == IN_KEYRING:
        raise OSError("the system's keyring, which has the credentials, cannot be used from here")
    if kept != known:
        replace_file(path, [kept])


def erase(folder: Path) -> None:
    """Erase the credentials. Raises OSError."""
    if (folder / FILE_NAME).exists() and (folder / FILE_NAME).read_bytes() == IN_KEYRING:
        keyring_store.erase(folder)
    (folder / FILE_NAME).unlink(missing_ok=True)
