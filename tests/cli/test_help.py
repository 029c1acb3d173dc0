"""The help of `onsembl` and its commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from support.control_center import clean_environment

from onsembl.cli.main import main

LINE = 100
"""Longer than every short help."""


def commands(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        yield inner.command_path, command
        if isinstance(command, click.Group):
            yield from commands(command, inner)


ALL = dict(commands(main, click.Context(main, info_name="onsembl")))


def test_the_list_of_commands_imports_none_of_them():
    """`onsembl --help` prints the short helps of main.py, and imports no command."""
    program = (
        "import sys; from onsembl.cli.main import main; main(['--help'], standalone_mode=False);"
        " print([name for name in sys.modules if name.startswith(('onsembl.cli.client', 'onsembl.cli.server'))])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], env=clean_environment(), capture_output=True, text=True, check=True
    )
    *helped, imported = result.stdout.splitlines()
    assert imported == "[]"
    assert [name for name in main.lazy if not any(line.split()[:1] == [name] for line in helped)] == []


@pytest.mark.parametrize(("path", "command"), ALL.items(), ids=list(ALL))
def test_every_command_and_option_has_a_help(path: str, command: click.Command):
    """Each command's short help is a sentence, and each option has a help."""
    assert command.get_short_help_str(LINE).endswith("."), path
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []
