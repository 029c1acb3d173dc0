"""A command group that imports a command only when it is used, so that the program starts fast.

A machine with the base package lacks the server's packages: only the commands that need them fail there.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import click

from onsembl.cli.hints import install_hint
from onsembl.cli.output import failures_as_messages


class LazyCommand(NamedTuple):
    """A command that is imported on use: where it is (`module:attribute`), and its line in the group's help."""

    target: str
    short_help: str


class LazyGroup(click.Group):
    """A group whose commands are given by name in `lazy`."""

    def __init__(self, *args: Any, lazy: dict[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the arguments; a failure to print the help ends with a message."""
        with failures_as_messages():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; its failures end with a message."""
        with failures_as_messages():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands in alphabetical order."""
        return sorted(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command. If a package is missing, return a command that says which one to install."""
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name].target.partition(":")
        try:
            command = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("onsembl"):
                raise
            return _missing_packages(cmd_name, error.name or "")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the given short helps, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.lazy[name].short_help) for name in self.list_commands(ctx)])


def _missing_packages(name: str, missing: str) -> click.Command:
    @click.command(
        name,
        help=f"Needs the server's packages: {install_hint('server')}.",
        context_settings={"ignore_unknown_options": True},
    )
    @click.argument("arguments", nargs=-1)
    def fail(arguments: tuple[str, ...]) -> None:
        raise click.ClickException(
            f"`onsembl {name}` needs the server's packages ({missing} is missing): {install_hint('server')}."
        )

    return fail
