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


def _blocks_of(document: str) -> list[dict]:
    """The blocks of TOML in a document of docs/."""
    return [tomllib.loads(block) for block in re.findall(r"^```toml\n(.*?)^```", document, re.MULTILINE | re.DOTALL)]


def test_fly_wakes_the_worker_where_it_listens():
    """The documented address of the workers is that of their app and service, which starts a worker that answers there
    and exits when it is idle; the instances run none."""
    workers = tomllib.loads((ROOT / "fly.workers.toml").read_text())
    (service,) = workers["services"]
    name, *arguments = shlex.split(workers["processes"]["worker"])[1:]
    command = main.get_command(click.Context(main), name)
    values = command.make_context(name, arguments, resilient_parsing=True).params
    assert values["until_idle"] and values["wake_port"] == service["internal_port"] and values["wake_host"] == "0.0.0.0"
    assert service["processes"] == list(workers["processes"])
    assert (service["auto_start_machines"], service["min_machines_running"]) == (True, 0)
    assert [restart["policy"] for restart in workers["restart"]] == ["on-failure"]
    (instances,) = _blocks_of((ROOT / "docs" / "deployment.md").read_text())
    port = service["ports"][0]["port"]
    assert instances["env"]["ONSEMBL_WORKER_WAKE_URL"] == f"http://{workers['app']}.flycast:{port}/"
    name, *arguments = shlex.split(instances["processes"]["app"])[1:]
    assert (
        main.get_command(click.Context(main), name)
        .make_context(name, arguments, resilient_parsing=True)
        .params["no_worker"]
    )


FLY = {
    "": "app primary_region kill_signal kill_timeout env deploy http_service restart vm processes services",
    "deploy": "strategy",
    "http_service": "internal_port force_https auto_stop_machines auto_start_machines min_machines_running concurrency"
    " checks processes",
    "concurrency": "type soft_limit hard_limit",
    "checks": "method path interval timeout grace_period",
    "restart": "policy retries processes",
    "vm": "size memory",
    "services": "processes protocol internal_port auto_stop_machines auto_start_machines min_machines_running ports",
    "ports": "port handlers",
}
"""The settings of https://fly.io/docs/reference/configuration/ that we use, by section. Fly ignores a misspelt one."""


@pytest.mark.parametrize("file", ["fly.toml", "fly.workers.toml"])
def test_fly_knows_the_settings(file: str):
    """Each setting is one of Fly's, and each machine has at least the time for its stop that a drain takes."""

    def check(section: str, values: dict) -> None:
        assert values.keys() <= set(FLY[section].split()), section
        for name, value in values.items():
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, dict) and name not in ("env", "processes"):
                    check(name, inner)

    settings = tomllib.loads((ROOT / file).read_text())
    check("", settings)
    known = {
        option.envvar for name in ("up", "worker") for option in main.get_command(click.Context(main), name).params
    }
    assert settings.get("env", {}).keys() <= known
