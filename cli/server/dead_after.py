"""The option that says when a worker counts as dead; whoever runs jobs, or shows them, has it."""

from __future__ import annotations

import click

dead_after_option = click.option(
    "--dead-after",
    type=click.FloatRange(1, 3600),
    envvar="ONSEMBL_DEAD_AFTER",
    show_envvar=True,
    default=12.0,
    show_default=True,
    help="Seconds of silence after which a worker is taken for dead, and its jobs are taken over; the same for all.",
)
