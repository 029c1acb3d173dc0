"""Which installation an update replaces, and with which installer."""

from __future__ import annotations

import json
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from onsembl.agent.errors import AgentError
from onsembl.agent.installation import Installed, Installer, find_installer, install, release_of

SHA256 = "a" * 64


def distribution(folder: Path, origin: object, *, record: bool = True) -> PathDistribution:
    info = folder / "onsembl-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: onsembl\nVersion: 2.0\n")
    (info / "direct_url.json").write_text(origin if isinstance(origin, str) else json.dumps(origin))
    if record:
        (info / "RECORD").write_text("onsembl/a.py,,\n")
    return PathDistribution(info)


@pytest.mark.parametrize(
    ("origin", "sha256"),
    [
        ({"url": "file:///o.whl", "archive_info": {"hashes": {"sha256": SHA256}}}, SHA256),
        ({"url": f"file:///o.whl#sha256={SHA256}", "archive_info": {}}, SHA256),
        ({"url": "file:///o.whl", "archive_info": {}}, None),
        ("damaged", None),
    ],
)
def test_the_release_is_the_one_that_the_installer_recorded(tmp_path: Path, origin: object, sha256: str | None):
    """pip records the hash of the wheel, and uv leaves it in the URL."""
    assert release_of(distribution(tmp_path, origin)) == Installed("2.0", sha256)


@pytest.mark.parametrize("editable", [True, False])
def test_sources_are_not_replaced(tmp_path: Path, editable: bool):
    """Neither an editable installation nor a source tree."""
    origin = {"url": "file:///src", "dir_info": {"editable": editable}}
    with pytest.raises(AgentError, match="runs from its sources"):
        release_of(distribution(tmp_path, origin, record=editable))


def test_the_installer_is_that_of_the_environment(tmp_path: Path):
    """Its own pip, else uv; without both it says what to do."""
    (tmp_path / "uv").touch(mode=0o755)
    uv = {"PATH": str(tmp_path)}
    assert find_installer("/env/bin/python", uv, has_pip=True).name == "pip"
    found = find_installer("/env/bin/python", uv, has_pip=False)
    assert found.command[:5] == (str(tmp_path / "uv"), "pip", "install", "--python", "/env/bin/python")
    with pytest.raises(AgentError, match="neither pip nor uv"):
        find_installer("/env/bin/python", {"PATH": ""}, has_pip=False)


def test_a_failed_installation_is_told(tmp_path: Path):
    """With the end of the installer's output."""
    failing = Installer("pip", ("sh", "-c", "echo no room; exit 3"))
    with pytest.raises(AgentError, match=r"has left the installed one \(exit code 3\).*\nno room"):
        install(failing, tmp_path / "onsembl.whl", Installed("2.0", SHA256))
    with pytest.raises(AgentError, match="cannot be started"):
        install(Installer("uv", (str(tmp_path / "none"),)), tmp_path / "onsembl.whl", Installed("2.0", SHA256))
