"""The files of a prompt on the agent's machine: in a private folder of their command, which goes with its end."""

from __future__ import annotations

import hashlib
import os
import shutil
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from onsembl.agent.errors import AgentError
from onsembl.protocol.attachments import Attachment


class AttachmentError(AgentError):
    """A file of the prompt cannot be had; the text says why."""


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """A file of a prompt, and where it is."""

    attachment: Attachment
    path: Path

    def base64(self) -> str:
        """The content in base64. Raises OSError."""
        return b64encode(self.path.read_bytes()).decode()


def with_paths(prompt: str, files: Sequence[AttachedFile]) -> str:
    """The prompt, and the paths of its files."""
    if not files:
        return prompt
    return f"{prompt}\n\nAttached files:\n" + "\n".join(f"- {file.path}" for file in files)


class AttachedFiles:
    """Fetches the files of prompts into `folder`. `fetch` returns the content of one; it retries what may pass, and
    raises AttachmentError."""

    def __init__(self, folder: Path, fetch: Callable[[Attachment], Awaitable[bytes]]) -> None:
        self._folder = folder
        self._fetch = fetch

    async def place(self, command_id: UUID, attachments: Sequence[Attachment]) -> list[AttachedFile]:
        """Fetch and write the files of a command, readable by this user only. Raises AttachmentError and OSError."""
        if not attachments:
            return []
        # Claude Code compares the folder that it may read with the file's path after links are followed.
        folder = (self._folder / str(command_id)).resolve()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files: list[AttachedFile] = []
        for number, attachment in enumerate(attachments, 1):
            content = await self._fetch(attachment)
            if len(content) != attachment.size or hashlib.sha256(content).hexdigest() != attachment.sha256:
                raise AttachmentError(f"The file {attachment.name} has arrived damaged.")
            # Two files may have one name: then the later one has its number.
            path = folder / attachment.name
            if path.exists():
                path = folder / str(number) / attachment.name
                path.parent.mkdir(mode=0o700)
            _write(path, content)
            files.append(AttachedFile(attachment, path))
        return files

    def remove(self, command_id: UUID) -> None:
        """Remove the files of a command. Raises OSError."""
        _remove(self._folder / str(command_id))

    def remove_all(self) -> None:
        """Remove the files that an earlier run of the agent has left. Raises OSError."""
        _remove(self._folder)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _remove(folder: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
