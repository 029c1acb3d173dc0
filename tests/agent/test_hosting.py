"""What the owner of a host allows."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from onsembl.agent.errors import AgentError
from onsembl.agent.hosting.rules import HostRules, Refused
from onsembl.protocol.hosting import StartKind, agent_kind, arguments_of


@pytest.fixture
def rules(tmp_path: Path) -> HostRules:
    """Rules that allow one folder, in which there is a project."""
    (tmp_path / "allowed" / "project").mkdir(parents=True)
    return HostRules(["shell", "acp:opencode"], [tmp_path / "allowed"], 2)


def test_an_allowed_folder_is_opened_with_what_is_below(rules, tmp_path: Path):
    """By its absolute path, however that is written."""
    for path in ("allowed", "allowed/", "allowed/project", "allowed/./project/"):
        descriptor = rules.open_folder(f"{tmp_path}/{path}")
        assert os.path.samestat(os.fstat(descriptor), (tmp_path / path).stat())
        os.close(descriptor)


def test_no_link_leads_out_of_an_allowed_folder(rules, tmp_path: Path):
    """Neither a link, nor `..`, nor a folder whose name begins alike, nor a relative path."""
    (tmp_path / "allowed-not").mkdir()
    (tmp_path / "allowed" / "out").symlink_to(tmp_path)
    (tmp_path / "allowed" / "in").symlink_to(tmp_path / "allowed" / "project")
    for path in ("allowed/out", "allowed/out/allowed-not", "allowed/in", "allowed/../allowed-not", "allowed-not", ""):
        with pytest.raises(Refused):
            rules.open_folder(f"{tmp_path}/{path}")
    for path in ("project", ".", "", "/", "allowed/project"):
        with pytest.raises(Refused):
            rules.open_folder(path)


def test_a_folder_that_takes_the_place_of_an_allowed_one_is_not_it(rules, tmp_path: Path):
    """What is allowed is the folder that was there when the host began."""
    (tmp_path / "allowed").rename(tmp_path / "former")
    (tmp_path / "allowed").symlink_to("/")
    with pytest.raises(Refused):
        rules.open_folder(f"{tmp_path}/allowed/tmp")
    os.close(rules.open_folder(f"{tmp_path}/allowed/project"))


def test_kinds_and_their_number_are_checked(rules):
    """A kind that is not allowed is refused, and one agent more than is allowed."""
    rules.check("acp:opencode", 1)
    for kind, running in (("claude", 0), ("acp:goose", 0), ("acp", 0), ("shell", 2)):
        with pytest.raises(Refused):
            rules.check(kind, running)


def test_a_folder_that_is_missing_is_an_error_at_the_start(tmp_path: Path):
    """The owner is told, and no host runs."""
    with pytest.raises(AgentError, match="cannot be opened"):
        HostRules(["shell"], [tmp_path / "none"], 1)


def test_a_kind_names_the_program_of_an_acp_agent():
    """A kind in a request is a kind of agents; that of an ACP agent has its CLI's name, without which no host runs."""
    assert (agent_kind("acp:opencode"), arguments_of("acp:opencode")) == ("acp", ["opencode"])
    assert (agent_kind("shell"), arguments_of("shell")) == ("shell", [])
    for kind in ("acp:", "acp:a b", "acp:../x", "acp:-x", "claude\n", "bash"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(kind, StartKind)
    with pytest.raises(AgentError):
        HostRules(["acp"], [], 1)
