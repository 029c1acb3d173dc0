"""The lock on an agent's folder: one program at a time uses its credentials, journal and spool."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from onsembl.agent.errors import AgentError

NAME = "lock"


class FolderInUse(AgentError):
    """Another program uses the agent's folder: the agent runs."""


def lock_folder(folder: Path) -> int:
    """Lock the folder until the returned descriptor is closed. Raises FolderInUse and OSError."""
    descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise FolderInUse(f"This agent runs already: {folder} is in use.") from error
    return descriptor


def is_in_use(folder: Path) -> bool:
    """Whether an agent that runs has locked the folder. Raises OSError."""
    try:
        os.close(lock_folder(folder))
    except FolderInUse:
        return True
    return False
