"""Credentials are not sent to another machine without encryption, unless `--insecure` allows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from onsembl.agent.enrolment import credentials as store
from onsembl.cli.insecure import is_encrypted_or_local
from onsembl.cli.main import main

FAR = "http://192.0.2.1:9"
"""An address of a documentation network (RFC 5737), where nothing answers."""


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://onsembl.example.org", True),
        ("http://onsembl.example.org", False),
        ("http://localhost:8400", True),
        ("http://demo.localhost:8400", True),
        ("http://127.0.0.1:8400", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:8400", True),
        ("http://0.0.0.0:8400", False),
        ("http://10.0.0.1", False),
        ("http://[fe80::1]", False),
        ("http://localhost.example.org", False),
        ("http://127.0.0.1.example.org", False),
        ("http://onsembl.internal", False),
    ],
)
def test_only_https_and_this_machine_get_credentials(url: str, expected: bool):
    """Names and addresses of this machine are never sent over a network."""
    assert is_encrypted_or_local(url) == expected


def commands(group: click.Group, context: click.Context, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """All commands below a group, with their paths."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, context, f"{path} {name}")
        else:
            yield f"{path} {name}".strip(), command


def test_every_command_that_takes_a_server_can_be_allowed():
    """Each command with `--server` has `--insecure`, too, and no command passes the check by leaving it out."""
    with click.Context(main) as context:
        found = {
            path: {option for parameter in command.params for option in parameter.opts}
            for path, command in commands(main, context)
        }
    with_server = {path for path, options in found.items() if "--server" in options}
    assert len(with_server) > 30
    assert with_server - {path for path, options in found.items() if "--insecure" in options} == set()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A folder with an agent that is enrolled at another machine without encryption."""
    enrolled = store.Credentials(
        server=FAR, agent_id="x", name="one", kind="shell", access_token="", access_expires_at=0.0, refresh_token="r"
    )
    store.save(tmp_path / "one", enrolled)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("login", "--server", FAR, "--email", "a", "--password", "b"),
        ("agents", "list", "--server", FAR),
        ("agent", "enrol", "--server", FAR, "--name", "two", "--kind", "shell"),
        ("agent", "login", "--server", FAR, "--name", "two", "--kind", "shell"),
        ("agent", "run", "--name", "one"),
        ("agent", "logout", "--name", "one"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_credentials_for_another_machine_are_refused(state: Path, arguments: tuple[str, ...]):
    """The command exits before it connects, and names the URL and both ways out."""
    if arguments[0] == "agent":
        arguments = (*arguments, "--state-dir", str(state))
    environment = {"ONSEMBL_TOKEN": "t", "ONSEMBL_ENROLMENT_TOKEN": "t", "ONSEMBL_INSECURE": None}
    result = CliRunner().invoke(main, arguments, env=environment)
    assert result.exit_code == 1, result.output
    for text in (FAR, "https://", "--insecure"):
        assert text in result.output
