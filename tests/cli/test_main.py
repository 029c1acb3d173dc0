"""The help of `onsembl` and its commands."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from support.command_line import run_in_process
from support.control_center import clean_environment

from onsembl.cli import logs
from onsembl.cli.main import main

ROOT = Path(__file__).resolve().parents[2]

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


def test_every_hint_names_a_command_that_exists():
    """A command line in a text of the command line, of an agent or of the page is one of this program."""
    hint = re.compile(r"(?:`|: |\()onsembl ([a-z-]+)(?: ([a-z-]+))?")
    texts = [path for folder in ("cli", "agent", "api", "dashboard/src") for path in (ROOT / folder).rglob("*.*")]
    wrong: list[str] = []
    count = 0
    for path in texts:
        if path.suffix not in (".py", ".svelte", ".ts"):
            continue
        for group, command in hint.findall(path.read_text()):
            count += 1
            known = f"onsembl {group}" in ALL
            if known and isinstance(ALL[f"onsembl {group}"], click.Group) and command:
                known = f"onsembl {group} {command}" in ALL
            wrong += [] if known else [f"{path.name}: onsembl {group} {command}"]
    assert (wrong, count > 30) == ([], True)


def test_no_hint_installs_a_package_that_does_not_exist():
    """This package is on no index: a hint names its wheel."""
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    named = re.compile(r"(?:pip|pipx|uv tool) install ['\"]?onsembl(?![-*])")
    texts = [name for name in files if name.endswith((".py", ".md", ".svelte", ".ts"))]
    assert [name for name in texts if named.search((ROOT / name).read_text())] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["stop", "--status", "--data-dir", "a folder"], "(onsembl up --data-dir 'a folder')"),
        (["send", "--all", "true", "--server", "https://x.test/"], "onsembl login --server https://x.test"),
        (["agents", "list"], "onsembl login --server 'https://…'"),
        (
            ["agent", "run", "--name", "one", "--state-dir", "states"],
            "agent login --name one --state-dir states",
        ),
    ],
)
def test_a_hint_repeats_the_given_options(arguments: list[str], expected: str, tmp_path: Path, monkeypatch):
    """Who copies the hint acts on the same server and folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "configure", lambda *_, **__: None)
    result = run_in_process(*arguments, environment=clean_environment(XDG_STATE_HOME=str(tmp_path)))
    assert result.returncode == 1
    assert expected in result.stderr
