"""The wheel of the server's release, and `onsembl agent update`, which installs it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from support.agents import agent_running
from support.control_center import ControlCenter, clean_environment
from support.folders import data_folder
from support.server import Api, Enrolled
from support.wheels import as_version, sources_with_wheel, uv, wheel_of

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.enrol import enrol
from onsembl.api.release_wheel import NoWheel, ReleaseWheel, Wheel, pack
from onsembl.protocol.states import AgentKind

OLD = "0.0.9"
SIGN_IN = re.compile(r"Sign in with\s+(\S+)\s+and password\s+(\S+)")

pytestmark = [pytest.mark.no_worker, pytest.mark.timeout(600), pytest.mark.seconds(10)]


@pytest.fixture
def wheel(cluster: Path) -> Path:
    return wheel_of(sources_with_wheel(cluster, small_page=True))


def installed(wheel: Path, folder: Path) -> PathDistribution:
    """The wheel as an installer leaves it: with compiled modules, a script and records of its own."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    [info] = folder.glob("*.dist-info")
    for name in ("INSTALLER", "direct_url.json"):
        (info / name).write_text("{}")
    with (info / "RECORD").open("a") as record:
        record.write(f"../../bin/onsembl,,\nonsembl/__pycache__/a.pyc,,\n{info.name}/INSTALLER,,\n")
        record.write(f"{info.name}/direct_url.json,,\n")
    return PathDistribution(info)


def content_of(wheel: Path | zipfile.ZipFile) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) if isinstance(wheel, Path) else wheel as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


def test_a_wheel_is_packed_as_it_was_installed(wheel: Path, tmp_path: Path):
    """It has the files of the wheel that was installed, and is the same on each instance; a file that is missing in the
    installation is named."""
    found = installed(wheel, tmp_path / "one")
    packed = pack(found)
    (tmp_path / packed.release.wheel).write_bytes(packed.content)
    assert (packed.release.wheel, packed.release.size) == (wheel.name, len(packed.content))
    assert packed.release.sha256 == hashlib.sha256(packed.content).hexdigest()
    assert content_of(tmp_path / wheel.name) == content_of(wheel)
    main = tmp_path / "one" / "onsembl" / "cli" / "main.py"
    os.utime(main, (0, 0))
    assert pack(found) == packed
    main.unlink()
    with pytest.raises(NoWheel, match=r"lacks onsembl/cli/main\.py"):
        pack(found)


async def test_only_an_agent_fetches_the_wheel(api: Api, agent: Enrolled, wheel: Path, tmp_path: Path):
    """Not an operator, and not an agent whose credentials are revoked. A server without a wheel says why."""
    headers = {"Authorization": f"Bearer {agent.access_token}"}
    for path in ("/v1/agent/release", "/v1/agent/release/wheel"):
        none = await api.http.get(path, headers=headers)
        assert (none.status_code, none.json()["type"]) == (404, "urn:onsembl:problem:no-wheel")
        assert "runs from its sources" in none.json()["detail"]
        assert (await api.http.get(path)).status_code == 401
        assert (await api.http.get(path, headers=(await api.operator(name=path[-5:])).headers)).status_code == 401
    api.services.release_wheel = ReleaseWheel(lambda: installed(wheel, tmp_path))
    release = (await api.http.get("/v1/agent/release", headers=headers)).json()
    content = (await api.http.get("/v1/agent/release/wheel", headers=headers)).content
    assert (release["wheel"], release["size"]) == (wheel.name, len(content))
    assert release["sha256"] == hashlib.sha256(content).hexdigest()
    admin = await api.operator(name="chief")
    (await api.http.post(f"/v1/agents/{agent.id}/disable", headers=admin.headers)).raise_for_status()
    for path in ("/v1/agent/release", "/v1/agent/release/wheel"):
        assert (await api.http.get(path, headers=headers)).status_code == 401


def updating(python: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `onsembl agent update` of the environment of `python`, for the agent `one`."""
    command = [python.with_name("onsembl"), "agent", "update", "--name", "one", "--state-dir", folder]
    return subprocess.run(command, env=clean_environment(**environment), capture_output=True, text=True, check=False)


def version_in(environment: Path) -> str:
    """The release that is installed there."""
    [info] = environment.glob("lib/*/site-packages/onsembl-*.dist-info")
    return info.name.removeprefix("onsembl-").removesuffix(".dist-info")


@pytest.fixture
def old(wheel: Path, tmp_path: Path) -> Path:
    """The interpreter of an environment in which an older release is installed, without what it depends on: that is
    the tests' own."""
    environment = tmp_path / "environment"
    uv("venv", "--python", sys.executable, environment)
    python = environment / "bin" / "python"
    (next(environment.glob("lib/*/site-packages")) / "tests.pth").write_text(sysconfig.get_path("purelib"))
    uv("pip", "install", "--python", python, "--no-deps", as_version(wheel, OLD, tmp_path))
    return python


async def test_an_agent_is_updated_to_the_servers_release(api: Api, old: Path, wheel: Path, tmp_path: Path):
    """The wheel is installed and starts, and the agent that runs is named; a second update finds nothing to do. A
    wheel that is not the described one changes nothing."""
    no_dependencies = tmp_path / "uv.toml"
    no_dependencies.write_text("[pip]\nno-deps = true\n")

    async def update() -> tuple[int, str]:
        run = partial(updating, old, tmp_path / "agents", UV_CONFIG_FILE=str(no_dependencies))
        done = await asyncio.to_thread(run)
        return done.returncode, done.stdout + done.stderr

    async with agent_running(api, tmp_path):
        right = pack(installed(wheel, tmp_path / "server"))
        api.services.release_wheel = Given(replace(right, content=right.content[:-1] + b"x"))
        code, said = await update()
        assert (code, "not the one that it describes" in said) == (1, True), said
        assert version_in(old.parents[1]) == OLD

        api.services.release_wheel = Given(right)
        code, said = await update()
        assert code == 0, said
        assert f"from release {OLD} to {right.release.version}" in said
        assert "one runs with the former release" in said
        assert version_in(old.parents[1]) == right.release.version
        assert "is installed, as" in (await update())[1]


class Given(ReleaseWheel):
    """The wheel that the test gives."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel

    async def get(self) -> Wheel:
        return self._wheel


@pytest.fixture
def empty_folder() -> Iterator[Path]:
    """A folder that the system user of the embedded Postgres can reach."""
    with data_folder() as folder:
        yield folder


def with_pip(wheel: Path, folder: Path) -> Path:
    """The interpreter of a venv with pip, in which the wheel is installed."""
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
    return python


def as_tool_of_uv(wheel: Path, folder: Path) -> Path:
    """The interpreter of a tool of uv, as which the wheel is installed."""
    folders = {"UV_TOOL_DIR": str(folder / "tools"), "UV_TOOL_BIN_DIR": str(folder / "bin")}
    uv("tool", "install", "--python", sys.executable, wheel, **folders)
    return folder / "tools" / "onsembl" / "bin" / "python"


@pytest.mark.package
def test_installed_agents_are_updated_by_an_installed_server(cluster: Path, tmp_path: Path, empty_folder: Path):
    """With everything as an admin installs it: the server with its extra, agents in a venv with pip and as a tool of
    uv. What the release depends on is installed, too."""
    wheel = wheel_of(sources_with_wheel(cluster, small_page=True))
    former, agents = as_version(wheel, OLD, tmp_path), tmp_path / "agents"
    pythons = [with_pip(former, tmp_path), as_tool_of_uv(former, tmp_path)]
    server = empty_folder / "server"
    uv("venv", "--python", sys.executable, server)
    uv("pip", "install", f"{wheel}[server]", VIRTUAL_ENV=str(server))
    command = str(server / "bin" / "onsembl")
    with ControlCenter(empty_folder / "data", command=[command], cwd=tmp_path) as center:
        email, password = SIGN_IN.search(center.ready().output).groups()
        environment = clean_environment(ONSEMBL_OPERATOR_PASSWORD=password, XDG_STATE_HOME=str(tmp_path))
        onsembl = partial(subprocess.run, env=environment, capture_output=True, text=True, check=True)
        onsembl([command, "login", "--server", center.address, "--email", email])
        created = onsembl([command, "enrolment-tokens", "create", "--name-pattern", "one", "--json"]).stdout
        token = json.loads(created)["token"]
        store.save(agents / "one", asyncio.run(enrol(center.address, token, "one", AgentKind.SHELL)))
        for python in pythons:
            for expected in ("as described", "is installed, as"):
                done = updating(python, agents)
                assert (done.returncode, expected in done.stdout) == (0, True), done.stdout + done.stderr
            assert version_in(python.parents[1]) == wheel.name.split("-")[1]
