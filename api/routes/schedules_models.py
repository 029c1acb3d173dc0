"""Models of schedules."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from onsembl.api.http.models import Answer, Query, Time
from onsembl.api.http.problems import Problem
from onsembl.api.routes.commands_models import NewCommand, Revision, Target
from onsembl.protocol.field_types import NO_NUL, Name, Priority
from onsembl.protocol.limits import CommandLimits
from onsembl.protocol.permissions import PermissionMode
from onsembl.protocol.presets import Values
from onsembl.protocol.states import CommandState
from onsembl.protocol.tool_rules import ToolRules
from onsembl.protocol.turn_messages import Effort

Cron = Annotated[
    str, Meta(max_length=200, pattern=NO_NUL, description="Minute, hour, day of the month, month, day of the week.")
]
TimeZone = Annotated[
    str, Meta(max_length=64, pattern=NO_NUL, description="A name of the IANA's database, as Europe/Berlin.")
]


class NewSchedule(NewCommand, frozen=True, kw_only=True):
    """A command for a target that is sent once (`at`), or repeatedly by a cron expression in a time zone."""

    name: Name
    target: Target
    cron: Cron | None = None
    time_zone: TimeZone = "UTC"
    at: Time | None = None

    def check(self) -> None:
        """Raise Problem 422 unless the target is valid and exactly one of `cron` and `at` is given."""
        self.target.check()
        if (self.cron is None) == (self.at is None):
            raise Problem(422, "The body is invalid: give either `cron` or `at`.")


class ChangedSchedule(NewSchedule, frozen=True, kw_only=True):
    """The new content of a schedule; with `revision` only if it is still the schedule's revision."""

    revision: Revision | None = None


class ScheduleRun(Answer, frozen=True, kw_only=True):
    """One firing of a schedule: the command or the group that it sent, with the number of commands in each state; or
    the `error` that prevented it. `skipped` names the agents that were skipped, because an earlier command of the
    schedule was still queued."""

    due_at: Time
    ran_at: Time
    command_id: UUID | None
    group_id: UUID | None
    error: str | None
    skipped: list[str]
    counts: dict[CommandState, int]


class ScheduleAnswer(Answer, frozen=True, kw_only=True):
    """A schedule: a row of `onsembl.schedules`, with its last firing. `next_at` is null while the schedule is paused,
    and after its last time."""

    id: UUID
    name: str
    target: Target
    text: str | None
    preset: str | None
    values: Values
    priority: Priority | None
    limits: CommandLimits
    conversation: str
    model: str | None
    effort: Effort | None
    permission_mode: PermissionMode | None
    rules: ToolRules
    cron: str | None
    time_zone: str
    at: Time | None
    next_at: Time | None
    paused_at: Time | None
    paused_by_name: str | None
    revision: int
    created_at: Time
    updated_at: Time
    updated_by: UUID
    updated_by_name: str
    last: ScheduleRun | None


class Schedules(Answer, frozen=True, kw_only=True):
    """All schedules, by name."""

    schedules: list[ScheduleAnswer]


class ScheduleRuns(Answer, frozen=True, kw_only=True):
    """The latest firings of a schedule, newest first."""

    runs: list[ScheduleRun]


class RunsQuery(Query, frozen=True, kw_only=True):
    """The number of firings to list."""

    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class TimesQuery(Query, frozen=True, kw_only=True):
    """A cron expression and its time zone."""

    cron: Cron
    time_zone: TimeZone = "UTC"


class NextTimes(Answer, frozen=True, kw_only=True):
    """The next times of a cron expression; or the `problem` with it."""

    times: list[Time]
    problem: str | None
