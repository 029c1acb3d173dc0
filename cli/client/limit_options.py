"""The limits of commands, as options: how long they may run and be silent, and what they may use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = ("wall_time", "idle_time", "max_tokens", "max_cost")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def span(text: str) -> float:
    """A type for click: so long (`90`, `90s`, `30m`, `2h`, `1d`), in seconds."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no length of time: 90s, 30m, 2h, 1d.")
    return float(found[1]) * _UNITS[found[2] or "s"]


def limit_options(command: F) -> F:
    """`--wall-time`, `--idle-time`, `--max-tokens` and `--max-cost`; `limits_of` reads them."""
    for option in (
        click.option("--max-cost", type=click.FloatRange(0, min_open=True), metavar="USD", help="Stopped beyond it."),
        click.option("--max-tokens", type=click.IntRange(1), metavar="COUNT", help="Stopped beyond these."),
        click.option("--idle-time", type=span, metavar="SPAN", help="Stopped when it writes nothing for so long."),
        click.option("--wall-time", type=span, metavar="SPAN", help="Stopped when it runs longer: 90s, 30m, 2h."),
    ):
        command = option(command)
    return command


def limits_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The limits that are given, as the API takes them."""
    names = zip(OPTIONS, ("wall_seconds", "idle_seconds", "tokens", "cost_usd"), strict=True)
    return {name: options[option] for option, name in names if options[option] is not None}
