"""The system's keyring, where there is one: macOS's Keychain, Windows' Credential Locker, a Linux desktop's Secret
Service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from onsembl.agent.errors import AgentError

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

SERVICE = "onsembl agent"
SWITCH = "ONSEMBL_KEYRING"
"""`off` keeps credentials in files even where the system has a keyring."""
USABLE_PRIORITY = 1
"""Backends that store nothing have a lower priority."""


def system_keyring() -> KeyringBackend | None:
    """The keyring in use; None without the library, without a backend (as on a server), or when switched off."""
    if os.environ.get(SWITCH, "").lower() == "off":
        return None
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    try:
        backend = keyring.get_keyring()
        usable = backend.priority >= USABLE_PRIORITY
    except (KeyringError, RuntimeError):
        return None
    return backend if usable else None


def name_of(folder: Path) -> str:
    """The user name under which the keyring has the credentials of an agent's folder."""
    return str(folder.absolute())


def read(folder: Path) -> str:
    """The credentials that the keyring has for this folder. Raises AgentError."""
    ring = system_keyring()
    if ring is None:
        raise AgentError(
            f"The credentials in {folder} are in the system's keyring, which cannot be used from here. "
            "Start the agent in the session that enrolled it, or enrol it again."
        )
    try:
        kept = ring.get_password(SERVICE, name_of(folder))
    except _errors() as error:
        raise AgentError(f"The system's keyring does not return the credentials: {error}") from error
    if kept is None:
        raise AgentError(f"The system's keyring has no credentials for {folder}. Enrol the agent again.")
    return kept


def write(ring: KeyringBackend, folder: Path, text: str) -> None:
    """Store `text` for this folder. Raises OSError."""
    try:
        ring.set_password(SERVICE, name_of(folder), text)  # pyright: ignore[reportUnknownMemberType]
    except _errors() as error:
        raise OSError(f"the system's keyring does not store the credentials: {error}") from error


def erase(folder: Path) -> None:
    """Erase the credentials of this folder, if there are any. Raises OSError."""
    ring = system_keyring()
    if ring is None:
        return
    try:
        if ring.get_password(SERVICE, name_of(folder)) is not None:
            ring.delete_password(SERVICE, name_of(folder))
    except _errors() as error:
        raise OSError(f"the system's keyring does not erase the credentials: {error}") from error


def _errors() -> tuple[type[Exception], ...]:
    from keyring.errors import KeyringError

    return (KeyringError,)
