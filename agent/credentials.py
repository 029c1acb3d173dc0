"""What an agent keeps of its enrolment, in a file that only its owner can read."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import msgspec

from onsembl.agent.durable import replace
from onsembl.agent.errors import AgentError

FILE_NAME = "credentials.json"


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Whom the agent is to which server. `access_expires_at` is Unix time by this machine's clock, `access_lifetime`
    is in seconds."""

    server: str
    agent_id: str
    name: str
    kind: str
    access_token: str
    access_expires_at: float
    access_lifetime: float = 900.0
    refresh_token: str

    def renewed(self, access_token: str, expires_in: float, refresh_token: str) -> Credentials:
        """The same agent with the next pair of tokens."""
        return msgspec.structs.replace(
            self,
            access_token=access_token,
            access_expires_at=time.time() + expires_in,
            access_lifetime=expires_in,
            refresh_token=refresh_token,
        )

    def fresh_for(self, seconds: float) -> bool:
        """Whether the access token is good for that long still."""
        return self.access_expires_at - time.time() > seconds


def load(folder: Path) -> Credentials:
    """The credentials in an agent's folder. Raises AgentError when there are none or others can get at them."""
    path = folder / FILE_NAME
    try:
        for place, private in ((folder, "700"), (path, "600")):
            mode = stat.S_IMODE(place.stat().st_mode)
            if mode & 0o077:
                raise AgentError(f"{place} is open to others (mode {mode:o}). Mend it with: chmod {private} {place}")
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except FileNotFoundError as error:
        raise AgentError(f"This agent is not enrolled: there is no {path}. Use `onsembl agent enrol`.") from error
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AgentError(f"{path} is damaged ({error}). Enrol the agent again.") from error


def save(folder: Path, credentials: Credentials) -> None:
    """Keep the credentials: whole or not at all, also when the machine loses power. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace(folder / FILE_NAME, [msgspec.json.encode(credentials)])


def erase(folder: Path) -> None:
    """Forget the credentials. Raises OSError."""
    (folder / FILE_NAME).unlink(missing_ok=True)
