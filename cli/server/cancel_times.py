"""The option that says how much patience a cancel has with each kind of agent."""

from __future__ import annotations

import click
import msgspec

from onsembl.protocol.states import AgentKind
from onsembl.protocol.stop_timeouts import StopTimeouts


def kind_times(text: str) -> tuple[AgentKind, StopTimeouts]:
    """A type for click: `claude:interrupt=10,sigterm=20`; a rung that is not named keeps its usual time."""
    kind, _, rungs = text.partition(":")
    try:
        pairs = dict(rung.split("=", 1) for rung in rungs.split(","))
        return AgentKind(kind), msgspec.convert(pairs, StopTimeouts, strict=False)
    except ValueError as error:
        reason = f"{text!r} is not of the form claude:interrupt=10,sigterm=20 (seconds): {error}."
        raise click.BadParameter(reason) from error


cancel_times_option = click.option(
    "--cancel-times",
    type=kind_times,
    multiple=True,
    metavar="KIND:RUNG=SECONDS,…",
    envvar="ONSEMBL_CANCEL_TIMES",
    show_envvar=True,
    help="How long a cancel waits after each rung (interrupt, sigint, sigterm, sigkill, sweep), for a kind of agent.",
)
