"""Errors that end the program with a paragraph for the person at the terminal, never a traceback."""

from __future__ import annotations

import click


class StartError(click.ClickException):
    """Something that a person can mend stands in the way."""

    exit_code = 1
