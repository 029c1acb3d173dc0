"""The error that ends a command with a message for the person at the terminal instead of a traceback."""

from __future__ import annotations

import click


class CliError(click.ClickException):
    """The command failed for a reason that its user can act on. The text is printed, and the exit code is 1."""

    exit_code = 1
