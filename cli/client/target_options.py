"""For whom a command is: one agent, several by name, those with some labels, or all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def target_options(command: F) -> F:
    """`--agent`, `--label` and `--all`, as the parameters `agents`, `labels` and `everyone`."""
    for option in (
        click.option("--all", "everyone", is_flag=True, help="To every agent."),
        click.option("--label", "labels", multiple=True, help="To the agents with this label; repeated: all of them."),
        click.option("--agent", "agents", multiple=True, metavar="NAME", help="To this agent; may be repeated."),
    ):
        command = option(command)
    return command


def target_of(agents: tuple[str, ...], labels: tuple[str, ...], everyone: bool) -> dict[str, Any]:
    """The target as the API takes it. Raises click.UsageError unless it is said in one way."""
    if bool(agents) + bool(labels) + everyone != 1:
        raise click.UsageError("Say for whom: --agent, --label or --all.")
    return {"all": True} if everyone else {"labels": labels} if labels else {"agents": agents}
