"""Prints the lines of every command. Hidden characters of foreign texts are escaped here, once for all commands.

Nothing else in `cli/` prints: ruff rejects `click.echo` there.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, cast

import click

from onsembl.cli.errors import CliError
from onsembl.protocol.visible_text import visible, visible_lines

CLOSED_PIPE = 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else 1
"""The exit code of a program that nobody reads from, as a shell has it."""
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""Errors of a file that cannot be written: the disk is full, or the caller has closed it."""


class Styled(str):
    """A visible text with this program's own colours."""

    __slots__ = ()


def styled(text: str, **style: Any) -> Styled:
    """The text with the given style of `click.style`."""
    return Styled(click.style(visible(text), **style))


def print_line(*parts: str, err: bool = False) -> None:
    """Print the parts as one line. A line end in a part is escaped, too: no text can pretend to be a further line."""
    _print("".join(part if isinstance(part, Styled) else visible(part) for part in parts), err=err)


def print_lines(text: str, indent: str = "") -> None:
    """Print a text of several lines, each after `indent`."""
    _print("\n".join(f"{indent}{line}" if line else "" for line in visible_lines(text).split("\n")))


def print_field(name: str, value: object, width: int = 20) -> None:
    """Print a field; the lines of its value stand below one another. `value` is one of JSON."""
    indented = visible_lines(_as_text(value)).replace("\n", "\n" + " " * (width + 1))
    _print(f"{visible(name):<{width}} {indented}")


def _as_text(value: object) -> str:
    """A JSON value as a person reads it: the fields of an object that say something, and the values of a list."""
    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            named = cast("dict[str, object]", value).items()
            fields = [(name, inner) for name, inner in named if inner not in (None, "", [], {})]
            return ", ".join(f"{name.replace('_', ' ')} {_as_text(inner)}" for name, inner in fields)
        case list():
            return "\n".join(map(_as_text, cast("list[object]", value)))
        case _:
            return str(value)


def print_progress(text: str) -> None:
    """Show the text on the present line of standard error, if that is a terminal; an empty text clears the line."""
    if sys.stderr is not None and sys.stderr.isatty():  # pyright: ignore[reportUnnecessaryComparison]
        click.echo(f"\r\x1b[K{visible(text)}", nl=False, err=True)


def print_output(text: str) -> None:
    """Print a part of the output of a program on an agent. Hidden characters are escaped on a terminal only: a file has
    them as they are."""
    if text:
        click.echo(visible_lines(text) if sys.stdout.isatty() else text, nl=False)


@contextmanager
def failures_as_messages() -> Generator[None]:
    """Turn the failures of a command into a message and an exit code: nobody at a terminal needs their traceback.

    A closed pipe ends the command without a message.
    """
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout = io.TextIOWrapper(_ClosedOutput(), encoding="utf-8", write_through=True)  # pyright: ignore[reportArgumentType]
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except click.ClickException as error:
        error.message = visible_lines(error.message)  # pyright: ignore[reportAttributeAccessIssue]
        raise
    except OSError as error:
        if error.errno == errno.EPIPE:
            _discard_output()
            raise OutputClosed("Nobody reads the output.") from error
        if error.filename is not None:
            raise CliError(visible_lines(f"{error.filename}: {error.strerror}.")) from error
        if error.errno in UNWRITABLE:
            _discard_output()
            raise CliError(f"The output cannot be written: {error.strerror}.") from error
        raise


class OutputClosed(click.ClickException):
    """The reader of a pipe has ended: so does the command, without a message, as other programs do."""

    exit_code = CLOSED_PIPE

    def show(self, file: Any = None) -> None:
        """Print nothing."""


def _print(line: str, *, err: bool = False) -> None:
    click.echo(line, err=err)


class _ClosedOutput(io.RawIOBase):
    """Standard output that the caller has closed: Python itself would let a command print into nothing."""

    def writable(self) -> bool:
        return True

    def write(self, _data: object) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _discard_output() -> None:
    """Let what is buffered go nowhere: the interpreter would try to write it once more when it exits."""
    with suppress(OSError):  # a closed output, or that of a test
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def local_time(text: str) -> str:
    """A time of an answer, in local time. An unreadable one is an error in its place, which is shown as it is."""
    try:
        return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):
        return text
