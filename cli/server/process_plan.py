"""What a process of `onsembl up --instances` is told by its parent, and how it answers."""

from __future__ import annotations

from dataclasses import dataclass

from onsembl.api.settings import Settings

READY = b"ready\n"
"""The line on the process's standard output when it answers requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPlan:
    """The settings of one process, and the descriptors of the sockets that it listens on. With `realtime` it serves
    the built-in Realtime alone."""

    settings: Settings
    descriptors: tuple[int, ...]
    realtime: bool = False
