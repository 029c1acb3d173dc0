"""`--json`, which commands share: a program reads the same values that a person is shown."""

from __future__ import annotations

import json
from typing import Any

import click

from onsembl.cli.output import print_lines

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: Any) -> None:
    """Print `value` with indentation. Values that JSON has no type for (dates, UUIDs) are printed as strings."""
    print_lines(json.dumps(value, indent=2, default=str))
