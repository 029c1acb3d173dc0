"""The commands and settings in README.md, the Dockerfile and fly.toml exist."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from onsembl.api.app import create_app
from onsembl.api.settings import Settings
from onsembl.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SOURCES = [path for part in ("agent", "api", "cli", "realtime") for path in (ROOT / part).rglob("*.py")]
NOT_SETTINGS = {"ONSEMBL_COMMAND_ID", "ONSEMBL_TOOLS_SECRET", "ONSEMBL_TOOLS_SOCKET"}
"""Variables that an agent sets for its commands, which are no settings."""


def shell_lines() -> Iterator[str]:
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        yield from (line for line in block.replace("\\\n", " ").splitlines() if line.strip())


def commands() -> list[list[str]]:
    """Every `onsembl` command in README.md and the Dockerfile, split like a shell does."""
    started = re.search(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1]
    lines = [shlex.split(line, comments=True) for line in shell_lines()] + [json.loads(started)]
    lines = [["onsembl", *line[1:]] if line[:2] == ["./dev", "up"] else line for line in lines]
    lines = [line[2:] if line[:2] == ["./dev", "run"] else line for line in lines]
    found = [line[1:] for line in lines if line[0] == "onsembl"]
    return found + [shlex.split(text)[1:] for text in re.findall(r"`(onsembl [a-z-]+[^`…]*)`", README)]


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_the_command_exists(arguments: list[str]):
    """The command's name, options and values are valid."""
    command: click.Command = main
    context = click.Context(main, info_name="onsembl")
    while isinstance(command, click.Group) and arguments:
        name, *arguments = arguments
        found = command.get_command(context, name)
        assert found is not None, f"there is no {name}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    values, rest, _ = command.make_parser(context).parse_args(arguments)
    assert rest == []
    for parameter in command.params:
        value = values.get(parameter.name)
        if isinstance(parameter.type, click.Choice | click.types.IntParamType) and isinstance(value, str):
            parameter.type_cast_value(context, value)
        if arguments and parameter.required:
            assert value is not None, f"{parameter.name} is missing"


def test_the_commands_are_found():
    """The pattern finds the commands, including the first two of README.md."""
    assert ["up", "--demo"] in commands()
    assert {"./dev up --demo", "./dev test"} <= set(shell_lines())
    assert len(commands()) > 10


def test_the_table_has_every_setting():
    """Each variable that the code reads is in the table, and no other."""
    read = {
        name
        for path in SOURCES
        for name in re.findall(r'"((?:ONSEMBL|SUPABASE)_[A-Z_]+|DATABASE_URL|DATABASE_POOLER_URL)"', path.read_text())
    }
    described = set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE))
    assert described == read - NOT_SETTINGS


def test_every_linked_file_exists():
    """Every link of README.md leads to a file."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_fly_checks_the_port_and_path_of_the_server():
    """Fly's health check reaches the server that the Dockerfile starts."""
    service = tomllib.loads((ROOT / "fly.toml").read_text())["http_service"]
    up = main.get_command(click.Context(main), "up")
    port = next(parameter.default for parameter in up.params if parameter.name == "port")
    assert service["internal_port"] == port
    served = {route.path for route in create_app(Settings(database_url="", public_url="")).routes}
    assert {check["path"] for check in service["checks"]} <= served
