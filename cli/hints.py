"""Hints that name another command: with the options that were given to this one, so that they can be copied."""

from __future__ import annotations

import shlex
from importlib.metadata import version

import click
from click.core import ParameterSource

REPEATED = ("state_dir", "data_dir", "server")
"""Options that say where things are: a hint without them would lead elsewhere."""


def command_line(words: str, *arguments: str) -> str:
    """The command line of `onsembl WORDS ARGUMENTS`, with the given options that this command takes, too."""
    line = ["onsembl", *words.split(), *arguments]
    context = click.get_current_context(silent=True)
    if context is not None:
        taken = {parameter.name: parameter for parameter in _command(context, words).params}
        for name in REPEATED:
            option = taken.get(name)
            given = context.get_parameter_source(name) == ParameterSource.COMMANDLINE
            if given and isinstance(option, click.Option) and option.opts[0] not in arguments:
                line += [option.opts[0], str(context.params[name])]
    return shlex.join(line)


def install_hint(extra: str) -> str:
    """How to install this package with an extra. It is on no package index: its wheel is built from the sources."""
    wheel = f"onsembl-{version('onsembl')}-py3-none-any.whl"
    return f"install its wheel with the extra `{extra}`: pip install '{wheel}[{extra}]'"


def _command(context: click.Context, words: str) -> click.Command:
    command = context.find_root().command
    for word in words.split():
        assert isinstance(command, click.Group)
        inner = command.get_command(context, word)
        assert inner is not None, words
        command = inner
    return command
