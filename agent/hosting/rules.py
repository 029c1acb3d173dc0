"""What the owner of a host allows: kinds of agents, folders and their number. The host checks each request by it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from onsembl.agent.drivers.kinds import cli_name
from onsembl.agent.errors import AgentError
from onsembl.agent.working_folder import WorkingFolder
from onsembl.protocol.hosting import agent_kind, arguments_of


class Refused(Exception):
    """The owner's rules do not allow the request; the text says which one, for the person who made it."""


class HostRules:
    """The rules of one run of a host. A folder stays the same one whatever takes its path later."""

    def __init__(self, kinds: Iterable[str], folders: Iterable[Path], max_agents: int) -> None:
        """Raises AgentError for a kind that names no CLI, and for a folder that cannot be opened."""
        self.kinds = list(dict.fromkeys(kinds))
        for kind in self.kinds:
            cli_name(agent_kind(kind), arguments_of(kind))
        self.max_agents = max_agents
        self._folders: list[WorkingFolder] = []
        for folder in dict.fromkeys(folders):
            try:
                self._folders.append(WorkingFolder(folder))
            except OSError as error:
                raise AgentError(f"The folder {folder} cannot be opened: {error.strerror}.") from error

    @property
    def folders(self) -> list[str]:
        """The paths of the allowed folders."""
        return [str(folder.path) for folder in self._folders]

    def check(self, kind: str, running: int) -> None:
        """Check the kind of a new agent, beside `running` others. Raises Refused."""
        if kind not in self.kinds:
            raise Refused(f"Its owner allows {', '.join(self.kinds)}, not {kind}.")
        if running >= self.max_agents:
            raise Refused(f"It runs {running} agents, and its owner allows {self.max_agents}.")

    def open_folder(self, path: str) -> int:
        """Open the working folder of a new agent; the caller closes the descriptor. Raises Refused."""
        reason = f"Its owner allows folders below {', '.join(self.folders)}, not {path}."
        for folder in self._folders:
            try:
                return folder.open_folder(path)
            except ValueError:
                continue
            except OSError as error:
                reason = f"The folder {path} cannot be used: {_in_words(error)}."
        raise Refused(reason)


def _in_words(error: OSError) -> str:
    match error.errno:
        case errno.ELOOP | errno.ENOTDIR:
            return "a part of its path is a link or no folder"
        case errno.EXDEV:
            return "it is on another file system"
        case _:
            return os.strerror(error.errno or 0)
