"""The option that says how quick an emergency stop is."""

from __future__ import annotations

import click

from onsembl.fleet.halt import HALT_SECONDS

halt_seconds_option = click.option(
    "--halt-seconds",
    type=click.FloatRange(0.1, 60),
    envvar="ONSEMBL_HALT_SECONDS",
    show_envvar=True,
    default=HALT_SECONDS,
    show_default=True,
    help="How long an agent may take to stop everything in an emergency stop.",
)
