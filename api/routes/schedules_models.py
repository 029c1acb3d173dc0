"""Requests and answers about schedules."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from onsembl.api.http.models import Answer, NewCommand, Query, Time
from onsembl.api.http.problems import Problem
from onsembl.api.routes.commands_models import Target
from onsembl.protocol.field_types import Name, Priority
from onsembl.protocol.limits import CommandLimits
from onsembl.protocol.presets import Values
from onsembl.protocol.states import CommandState

Cron = Annotated[str, Meta(max_length=200, description="Minute, hour, day of the month, month, day of the week.")]
TimeZone = Annotated[str, Meta(max_length=64, description="A name of the IANA's database, as Europe/Berlin.")]


class NewSchedule(NewCommand, frozen=True, kw_only=True):
    """What is to come for whom, and when: once at a time, or again and again by a cron expression in a time zone."""

    name: Name
    target: Target
    cron: Cron | None = None
    time_zone: TimeZone = "UTC"
    at: Time | None = None

    def check(self) -> None:
        """Raises Problem 422."""
        self.target.check()
        if (self.cron is None) == (self.at is None):
            raise Problem(422, "The body is invalid: give either `cron` or `at`.")


class ChangedSchedule(NewSchedule, frozen=True, kw_only=True):
    """The same, for a schedule that there is; with `revision` only if nobody has changed it since."""

    revision: Annotated[int, Meta(ge=1)] | None = None


class ScheduleRun(Answer, frozen=True, kw_only=True):
    """One firing: the command or the group that it made, and how many of its commands are in which state; or why it
    could make none. `skipped` names the agents that it passed over, as the command of an earlier time still waited
    there."""

    due_at: Time
    ran_at: Time
    command_id: UUID | None
    group_id: UUID | None
    error: str | None
    skipped: list[str]
    counts: dict[CommandState, int]


class ScheduleAnswer(Answer, frozen=True, kw_only=True):
    """A schedule: a row of `onsembl.schedules`, with its last firing. `next_at` is null while it is paused, and when
    nothing more is to come."""

    id: UUID
    name: str
    target: Target
    text: str | None
    preset: str | None
    values: Values
    priority: Priority | None
    limits: CommandLimits
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
    """Every schedule, by name."""

    schedules: list[ScheduleAnswer]


class ScheduleRuns(Answer, frozen=True, kw_only=True):
    """The latest firings of a schedule, newest first."""

    runs: list[ScheduleRun]


class RunsQuery(Query, frozen=True, kw_only=True):
    """How many."""

    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class TimesQuery(Query, frozen=True, kw_only=True):
    """A rule to try out."""

    cron: Cron
    time_zone: TimeZone = "UTC"


class NextTimes(Answer, frozen=True, kw_only=True):
    """The next times of a rule; without one, why there are none."""

    times: list[Time]
    problem: str | None
