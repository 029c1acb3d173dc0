"""Looks at files of the agent's working folder, and at nothing outside.

Each name of a path is opened by itself, relative to the folder before it and without following links, so that nothing
leads out of the folder: no `..`, no link, and no link that takes a folder's place in the meantime. Other file systems
that are mounted below it, such as /proc, are not entered.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from onsembl.protocol.attachments import image_type
from onsembl.protocol.field_types import EARLIEST, LATEST
from onsembl.protocol.files import MAX_ENTRIES, MAX_FILE_BYTES, Entry, FileRules, Seen, SeenKind, hides, refusal, split

MAX_NAMES = 20_000
"""How many names of a folder are read; the rest of a larger one is left out."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
"""A pipe that takes the file's place must not hold the agent up."""


class WorkingFolder:
    """A folder, which stays the same one whatever takes its path later. Raises OSError when it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        self._device = os.fstat(self._descriptor).st_dev

    def close(self) -> None:
        """Close the folder."""
        os.close(self._descriptor)

    @property
    def path(self) -> Path:
        """The path that the folder had when it was opened."""
        return self._path

    def open_folder(self, path: str) -> int:
        """Open a folder at this path, absolute and at or below this folder, as `look` opens it; the caller closes the
        descriptor. Raises ValueError for a path that is not below it, and OSError."""
        relative = self._relative(path)
        names = split(relative) if relative != path else None
        if names is None:
            raise ValueError(f"{path} is not below {self._path}.")
        folder = os.open(".", _FOLDER, dir_fd=self._descriptor)
        for name in names:
            above = folder
            try:
                folder = os.open(name, _FOLDER, dir_fd=above)
            finally:
                os.close(above)
            if os.fstat(folder).st_dev != self._device:
                os.close(folder)
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return folder

    def look(self, path: str, rules: FileRules) -> Seen:
        """What a path names, as far as the rules show it. It may wait for a disk."""
        names = split(self._relative(path))
        if names is None:
            return Seen(path=path, kind="refused", reason="The path leads out of the agent's working folder.")
        relative = "/".join(names)
        if (reason := refusal(names, rules)) is not None:
            return Seen(path=relative, kind="refused", reason=reason)
        try:
            return self._look(names, rules)
        except OSError as error:
            return _failed(relative, error)

    def _relative(self, path: str) -> str:
        """The path relative to the folder, if it is an absolute one below it."""
        below = f"{str(self._path).rstrip('/')}/"
        return path[len(below) :] if path.startswith(below) else "" if path == str(self._path) else path

    def _look(self, names: Sequence[str], rules: FileRules) -> Seen:
        path = "/".join(names)
        with ExitStack() as opened:
            folder = os.open(".", _FOLDER, dir_fd=self._descriptor)  # a copy would share the place of a listing
            opened.callback(os.close, folder)
            if os.fstat(folder).st_nlink == 0:
                reason = "The agent's working folder was deleted: restart the agent."
                return Seen(path=path, kind="refused", reason=reason)
            for place, name in enumerate(names):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                last = place == len(names) - 1
                if stat.S_ISREG(found.st_mode) and last:
                    return _file(path, name, folder)
                if not stat.S_ISDIR(found.st_mode):
                    kind: SeenKind = "link" if stat.S_ISLNK(found.st_mode) else "other" if last else "missing"
                    return Seen(path=path, kind=kind)
                folder = os.open(name, _FOLDER, dir_fd=folder)
                opened.callback(os.close, folder)
                if os.fstat(folder).st_dev != self._device:
                    return Seen(path=path, kind="refused", reason="It is on another file system.")
            return _folder(path, names, folder, rules)


def _file(path: str, name: str, folder: int) -> Seen:
    descriptor = os.open(name, _FILE, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return Seen(path=path, kind="other")
        modified = _time(found.st_mtime)
        head = file.read(16)
        if (image := image_type(head)) is not None:
            return Seen(path=path, kind="image", media_type=image, size=found.st_size, modified_at=modified)
        if found.st_size > MAX_FILE_BYTES:
            return Seen(path=path, kind="too_large", size=found.st_size, modified_at=modified)
        content = head + file.read(MAX_FILE_BYTES + 1 - len(head))
    kind: SeenKind = "too_large" if len(content) > MAX_FILE_BYTES else "binary" if b"\0" in content else "text"
    text = content.decode(errors="replace") if kind == "text" else None
    return Seen(path=path, kind=kind, size=len(content), modified_at=modified, text=text)


def _folder(path: str, names: Sequence[str], folder: int, rules: FileRules) -> Seen:
    entries: list[Entry] = []
    hidden = omitted = 0
    with os.scandir(folder) as listed:
        for number, item in enumerate(listed):
            if number >= MAX_NAMES or not _is_text(item.name):
                omitted += 1
            elif hides((*names, item.name), rules) is not None:
                hidden += 1
            else:
                entries.append(_entry(item))
    entries.sort(key=lambda entry: (entry.kind != "folder", entry.name))
    omitted += max(0, len(entries) - MAX_ENTRIES)
    return Seen(path=path, kind="folder", entries=entries[:MAX_ENTRIES], hidden=hidden, omitted=omitted)


def _entry(item: os.DirEntry[str]) -> Entry:
    try:
        found = item.stat(follow_symlinks=False)
    except OSError:  # it was deleted meanwhile
        return Entry(name=item.name, kind="other")
    if stat.S_ISDIR(found.st_mode):
        return Entry(name=item.name, kind="folder")
    if stat.S_ISREG(found.st_mode):
        return Entry(name=item.name, kind="file", size=found.st_size)
    return Entry(name=item.name, kind="link" if stat.S_ISLNK(found.st_mode) else "other")


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8: another one has no place in JSON."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _time(seconds: float) -> datetime | None:
    try:
        at = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return at if EARLIEST <= at < LATEST else None


def _failed(path: str, error: OSError) -> Seen:
    match error.errno:
        case errno.ENOENT:
            return Seen(path=path, kind="missing")
        case errno.ELOOP | errno.ENOTDIR:  # a link has taken its place
            return Seen(path=path, kind="link")
        case errno.EACCES | errno.EPERM:
            return Seen(path=path, kind="refused", reason="The agent's user may not read it.")
        case _:
            return Seen(path=path, kind="refused", reason=f"It cannot be read: {os.strerror(error.errno or 0)}.")
