"""A command group whose commands are imported when they are used: starting stays quick, and light where it must be."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """`lazy` maps a command's name to `module:attribute`."""

    def __init__(self, *args: Any, lazy: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = self._lazy.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        try:
            command = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("onsembl"):
                raise
            return _needs_server(cmd_name, error.name or "")
        assert isinstance(command, click.Command)
        return command


def _needs_server(name: str, missing: str) -> click.Command:
    """In the place of a command whose packages are not installed."""

    @click.command(
        name,
        help="Needs the server's packages: pip install 'onsembl[server]'.",
        context_settings={"ignore_unknown_options": True},
    )
    @click.argument("arguments", nargs=-1)
    def refused(arguments: tuple[str, ...]) -> None:
        raise click.ClickException(
            f"`onsembl {name}` needs the server's packages ({missing} is missing): pip install 'onsembl[server]'"
        )

    return refused
