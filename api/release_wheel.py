"""The wheel of the installed release, which agents update to. It is packed anew from the installed files, so that every
server that was installed from a wheel has one, however it was installed."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePosixPath

from onsembl.protocol.release import MAX_WHEEL_BYTES, Release

PACKAGE = "onsembl"
INSTALLERS_FILES = frozenset({"INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_build.json", "uv_cache.json"})
"""Files beside the package's metadata that tell of this installation, not of the release."""
EARLIEST_IN_A_ZIP = (1980, 1, 1, 0, 0, 0)
"""The time of every file, so that the instances of a release have the same wheel."""
READABLE_FILE = 0o100644 << 16


class NoWheel(Exception):
    """This installation has no wheel to give; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A packed wheel and its description."""

    release: Release
    content: bytes


class ReleaseWheel:
    """The wheel of the distribution that `find` finds, packed when it is first asked for and kept in memory."""

    def __init__(self, find: Callable[[], Distribution | None]) -> None:
        self._find = find
        self._packed: Wheel | None = None
        self._packing = asyncio.Lock()

    async def get(self) -> Wheel:
        """The wheel. Raises NoWheel."""
        async with self._packing:
            if self._packed is None:
                self._packed = await asyncio.to_thread(self._pack)
            return self._packed

    def _pack(self) -> Wheel:
        installed = self._find()
        if installed is None:
            raise NoWheel(
                "This server runs from its sources, so it has no wheel to give. Build one from the same sources "
                "(pip wheel --no-deps .), and install it on the agent's machine."
            )
        return pack(installed)


def installed_release() -> Distribution | None:
    """The distribution whose files this process runs; None for an editable installation."""
    here = f"{PACKAGE}/api/release_wheel.py"
    for found in distributions(name=PACKAGE):
        if here in map(str, _files(found)):
            return found
    return None


def pack(installed: Distribution) -> Wheel:
    """Pack the wheel from which `installed` was installed. Raises NoWheel if files are missing or are too large.

    Compiled modules, scripts and the installer's own files are left out; the record is written anew.
    """
    packed, record = io.BytesIO(), list[str]()
    version = installed.version
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(_files(installed)):
            if not _is_of_the_release(path):
                continue
            try:
                content = Path(str(installed.locate_file(str(path)))).read_bytes()
            except OSError as error:
                raise NoWheel(f"The server's installation lacks {path}: {error.strerror}. Install it again.") from error
            _add(archive, str(path), content)
            digest = urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{path},sha256={digest},{len(content)}")
        path = f"{PACKAGE}-{version}.dist-info/RECORD"
        _add(archive, path, "".join(f"{line}\n" for line in [*record, f"{path},,"]).encode())
    content = packed.getvalue()
    if len(content) > MAX_WHEEL_BYTES:
        raise NoWheel(f"The wheel has {len(content):,} bytes; agents take at most {MAX_WHEEL_BYTES:,}.")
    name = f"{PACKAGE}-{version}-py3-none-any.whl"
    digest = hashlib.sha256(content).hexdigest()
    return Wheel(Release(version=version, wheel=name, size=len(content), sha256=digest), content)


def _files(installed: Distribution) -> Iterator[PurePosixPath]:
    """The files that the installer has recorded, also those that are missing; none for a source tree."""
    return (PurePosixPath(row[0]) for row in csv.reader((installed.read_text("RECORD") or "").splitlines()) if row)


def _is_of_the_release(path: PurePosixPath) -> bool:
    """Whether the wheel had this file of the installation's record."""
    if path.parts[0] == PACKAGE:
        return path.suffix != ".pyc"
    return path.parts[0].endswith(".dist-info") and path.name not in INSTALLERS_FILES


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name, EARLIEST_IN_A_ZIP)
    member.external_attr = READABLE_FILE
    archive.writestr(member, content, zipfile.ZIP_DEFLATED)
