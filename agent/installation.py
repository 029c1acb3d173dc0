"""The installation of this program: its release, who installed it, and how another release is installed into it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from onsembl.agent.errors import AgentError

PACKAGE = "onsembl"
INSTALL_SECONDS = 15 * 60.0
CHECK_SECONDS = 60.0
LINES_OF_FAILURE = 15
CHECK = f"import onsembl.agent.program, importlib.metadata as found; print(found.version({PACKAGE!r}))"
"""Imports all that an agent runs with, and prints the release."""


@dataclass(frozen=True, slots=True)
class Installed:
    """The release that is installed, and the SHA-256 hash of its wheel, in hex, where the installer has recorded it."""

    version: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Installer:
    """A program that installs wheels: its name for people, and the command lines of an installation.

    `again` replaces a release by a wheel of the same version, which `command` then does not do.
    """

    name: str
    command: Sequence[str]
    again: Sequence[str] | None = None


def installed_release() -> Installed:
    """The release that this program runs. Raises AgentError when it was not installed from a wheel."""
    return release_of(distribution(PACKAGE))


def release_of(found: Distribution) -> Installed:
    """The release of an installed distribution. Raises AgentError when it was not installed from a wheel."""
    origin = _origin(found)
    if found.read_text("RECORD") is None or origin.dir_info.editable:
        raise AgentError(
            "This program runs from its sources, so no wheel can replace it. Update the sources, and restart the agent."
        )
    return Installed(found.version, origin.sha256)


class _DirInfo(msgspec.Struct, frozen=True):
    editable: bool = False


class _ArchiveInfo(msgspec.Struct, frozen=True):
    hashes: dict[str, str] = {}


class _Origin(msgspec.Struct, frozen=True):
    """What the installer has recorded about the origin (PEP 610)."""

    url: str = ""
    dir_info: _DirInfo = _DirInfo()
    archive_info: _ArchiveInfo = _ArchiveInfo()

    @property
    def sha256(self) -> str | None:
        """The hash of the wheel; uv leaves it in the URL."""
        return self.archive_info.hashes.get("sha256") or urlsplit(self.url).fragment.partition("sha256=")[2] or None


def _origin(found: Distribution) -> _Origin:
    try:
        return msgspec.json.decode(found.read_text("direct_url.json") or "{}", type=_Origin)
    except msgspec.MsgspecError:
        return _Origin()


def find_installer(python: str, environment: Mapping[str, str], *, has_pip: bool) -> Installer:
    """The installer of the environment of `python`: its own pip, as in a venv or under pipx, else uv. Raises
    AgentError."""
    if has_pip:
        pip = (python, "-P", "-m", "pip", "install", "--no-input", "--disable-pip-version-check")
        return Installer("pip", pip, (*pip, "--force-reinstall", "--no-deps"))
    uv = environment.get("UV") or shutil.which("uv", path=environment.get("PATH"))
    if uv is not None:
        return Installer("uv", (uv, "pip", "install", "--python", python, "--reinstall-package", PACKAGE))
    raise AgentError(
        f"There is neither pip nor uv to install a release for {python}. Put uv on the PATH, or install pip there: "
        f"{python} -m ensurepip"
    )


def this_installer() -> Installer:
    """The installer of this program's environment. Raises AgentError."""
    return find_installer(sys.executable, os.environ, has_pip=find_spec("pip") is not None)


def install(installer: Installer, wheel: Path, release: Installed) -> None:
    """Install the wheel of `release` into this program's environment, with what it depends on, and check that it
    starts. Raises AgentError."""
    requirement = f"{PACKAGE} @ {wheel.as_uri()}#sha256={release.sha256}"
    unchanged = f"{installer.name} could not install the release, and has left the installed one"
    _run([*installer.command, requirement], INSTALL_SECONDS, unchanged)
    if installer.again is not None and installed_release() != release:
        _run([*installer.again, requirement], INSTALL_SECONDS, unchanged)
    damaged = f"The release is installed, but does not start; install another with {installer.name}"
    said = _run([sys.executable, "-P", "-c", CHECK], CHECK_SECONDS, damaged).strip()
    if said != release.version:
        raise AgentError(f"{installer.name} has installed release {said}, not {release.version}.")


def _run(command: Sequence[str], seconds: float, failure: str) -> str:
    """The output of a program that succeeds. Raises AgentError, which begins with `failure`."""
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except OSError as error:
        raise AgentError(f"{failure}: {command[0]} cannot be started ({error.strerror}).") from error
    except subprocess.TimeoutExpired as error:
        raise AgentError(f"{failure}: no end after {seconds:.0f} s.") from error
    if ended.returncode != 0:
        tail = "\n".join(ended.stdout.splitlines()[-LINES_OF_FAILURE:])
        raise AgentError(f"{failure} (exit code {ended.returncode}). The end of its output:\n{tail}")
    return ended.stdout
