"""Options that several commands of the server share: timeouts, retention and how hard an agent is stopped."""

from __future__ import annotations

import click
import msgspec

from onsembl.fleet.halt import HALT_SECONDS
from onsembl.protocol.states import AgentKind
from onsembl.protocol.stop_timeouts import StopTimeouts


def kind_times(text: str) -> tuple[AgentKind, StopTimeouts]:
    """A click type: `claude:interrupt=10,sigterm=20`. A stage that is not named keeps its default time."""
    kind, _, stages = text.partition(":")
    try:
        seconds = dict(stage.split("=", 1) for stage in stages.split(","))
        return AgentKind(kind), msgspec.convert(seconds, StopTimeouts, strict=False)
    except ValueError as error:
        reason = f"{text!r} is not of the form claude:interrupt=10,sigterm=20 (seconds): {error}."
        raise click.BadParameter(reason) from error


archive_days_option = click.option(
    "--archive-days",
    type=click.IntRange(1, 3650),
    envvar="ONSEMBL_ARCHIVE_DAYS",
    show_envvar=True,
    default=30,
    show_default=True,
    help="Days to keep recordings of the terminals.",
)

cancel_times_option = click.option(
    "--cancel-times",
    type=kind_times,
    multiple=True,
    metavar="KIND:STAGE=SECONDS,…",
    envvar="ONSEMBL_CANCEL_TIMES",
    show_envvar=True,
    help=(
        "Seconds that a cancel waits after each stage (interrupt, sigint, sigterm, sigkill, sweep), for one kind of "
        "agent. May be repeated."
    ),
)

dead_after_option = click.option(
    "--dead-after",
    type=click.FloatRange(1, 3600),
    envvar="ONSEMBL_DEAD_AFTER",
    show_envvar=True,
    default=12.0,
    show_default=True,
    help="Seconds without a heartbeat after which other workers take over a worker's jobs. Set the same on all.",
)

halt_seconds_option = click.option(
    "--halt-seconds",
    type=click.FloatRange(0.1, 60),
    envvar="ONSEMBL_HALT_SECONDS",
    show_envvar=True,
    default=HALT_SECONDS,
    show_default=True,
    help="Seconds that an agent may take to stop everything in an emergency stop.",
)
