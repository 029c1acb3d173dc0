"""Options that several commands of the server share: its database and folder, timeouts, and retention.

They need the base install only: `onsembl stop` and `onsembl audit`, which have them, also work by the REST API.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
import platformdirs

from onsembl.protocol.states import AgentKind
from onsembl.protocol.stop_timeouts import HALT_SECONDS, StopTimeouts

FC = TypeVar("FC", bound=Callable[..., Any])


def kind_times(text: str) -> tuple[AgentKind, StopTimeouts]:
    """A click type: `claude:interrupt=10,sigterm=20`. A stage that is not named keeps its default time."""
    kind, _, stages = text.partition(":")
    try:
        seconds = dict(stage.split("=", 1) for stage in stages.split(","))
        if unknown := sorted(seconds.keys() - set(StopTimeouts.__struct_fields__)):
            raise ValueError(f"there is no stage {unknown[0]}")  # noqa: TRY301 — reported like the others
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

instance_dead_after_option = click.option(
    "--instance-dead-after",
    type=click.FloatRange(1, 3600),
    envvar="ONSEMBL_INSTANCE_DEAD_AFTER",
    show_envvar=True,
    default=30.0,
    show_default=True,
    help="Seconds without a heartbeat after which an API process is dead and its agents offline. Set the same on all.",
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


def default_folder() -> Path:
    """The user's data folder. For root it is a system folder, because other users cannot enter root's home."""
    if os.name == "posix" and os.geteuid() == 0:
        return Path("/var/lib/onsembl")
    return platformdirs.user_data_path("onsembl")


data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="ONSEMBL_DATA_DIR",
    show_envvar=True,
    default=default_folder,
    show_default="the user's data folder",
    help="The folder of the embedded Postgres and all other data.",
)

database_url_option = click.option(
    "--database-url",
    envvar="DATABASE_URL",
    show_envvar=True,
    help="A Postgres to use instead of the embedded one. Prefer the environment variable: other users see arguments.",
)

pooler_url_option = click.option(
    "--pooler-url",
    envvar="DATABASE_POOLER_URL",
    show_envvar=True,
    help=(
        "The database by its pooler in transaction mode, as port 6543 of a Supabase project: statements go there, and "
        "one connection of the process, which listens, stays at DATABASE_URL."
    ),
)


def database_connections_option(fewest: int, hosted: int, default: int) -> Callable[[FC], FC]:
    """The option with the number of connections, whose default is smaller with a hosted project."""
    return click.option(
        "--database-connections",
        type=click.IntRange(fewest, 1000),
        envvar="ONSEMBL_DATABASE_CONNECTIONS",
        show_envvar=True,
        default=lambda: hosted if os.environ.get("SUPABASE_URL", "").strip() else default,
        show_default=f"{default}; {hosted} with a hosted Supabase project",
        help="The most connections to the database that this process opens, without those of the built-in Supabase.",
    )


database_wait_option = click.option(
    "--database-wait",
    type=click.FloatRange(0, 3600),
    default=30.0,
    show_default=True,
    help="Seconds to wait for the database to respond.",
)
