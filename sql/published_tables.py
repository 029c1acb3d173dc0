"""The tables that Realtime publishes to operators' browsers: one list for setup, checks, tests and the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

from onsembl.protocol.states import Role
from onsembl.sql import (
    agents,
    alerts,
    attention,
    commands,
    conversations,
    device_requests,
    halts,
    reports,
    schedules,
    steps,
)


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table with the columns that browsers may read, which are those of the REST API. Operators whose role includes
    `role` see its rows."""

    columns: tuple[str, ...]
    role: Role = Role.VIEWER


def _columns(listed: LiteralString, *, but: str = "") -> tuple[str, ...]:
    """The names of a list of columns, such as `halts.at, "values"`, except `but`."""
    names = [name.strip().rpartition(".")[2].strip('"') for name in listed.split(",")]
    return tuple(name for name in names if name != but)


PUBLISHED = {
    "agents": PublishedTable(_columns(agents.COLUMNS)),
    "alerts": PublishedTable(_columns(alerts.COLUMNS)),
    "attention": PublishedTable(_columns(attention.SUMMARY)),
    "commands": PublishedTable(_columns(commands.COLUMNS)),
    "conversations": PublishedTable(_columns(conversations.COLUMNS)),
    "device_requests": PublishedTable(_columns(device_requests.COLUMNS), Role.ADMIN),
    "halt_agents": PublishedTable(_columns(halts.AGENT_COLUMNS, but="name")),  # the name is the agent's
    "halts": PublishedTable(_columns(halts.COLUMNS)),
    "reports": PublishedTable(_columns(reports.COLUMNS)),
    "schedules": PublishedTable(_columns(schedules.COLUMNS)),
    "turn_progress": PublishedTable(_columns(steps.PROGRESS_COLUMNS)),
}
"""The published tables of the schema `onsembl` whose rows operators see, by name."""

PROBES = "realtime_probes"
EVERY_PUBLISHED = {**PUBLISHED, PROBES: PublishedTable(("id", "user_id"))}
"""All published tables, also the one whose rows only the user of a check sees."""
