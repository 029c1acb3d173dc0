"""The option that says how long the archive is kept; whoever runs jobs has it."""

from __future__ import annotations

import click

archive_days_option = click.option(
    "--archive-days",
    type=click.IntRange(1, 3650),
    envvar="ONSEMBL_ARCHIVE_DAYS",
    show_envvar=True,
    default=30,
    show_default=True,
    help="How long everything that terminals showed is kept.",
)
