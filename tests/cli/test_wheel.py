"""The wheel has every module, the SQL and the page, and runs without the sources."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import psutil
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.control_center import ControlCenter, clean_environment
from support.wheels import PARTS, PYPROJECT, ROOT, STALE, sources_with_wheel, uv, wheel_of

pytestmark = [pytest.mark.timeout(600), pytest.mark.seconds(15)]  # the first run on a machine fetches packages


@pytest.fixture(params=["a small page", pytest.param("the dashboard", marks=pytest.mark.package)])
def sources(request: pytest.FixtureRequest, cluster: Path) -> Path:
    """Sources with the wheel that was built from them, once a run."""
    return sources_with_wheel(cluster, small_page=request.param == "a small page")


@pytest.fixture
def wheel(sources: Path) -> Path:
    return wheel_of(sources)


@pytest.fixture
def unpacked(wheel: Path, tmp_path: Path) -> Path:
    """A folder from which the wheel can be imported."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked"


def test_a_wheel_has_every_module_all_sql_and_the_page(sources: Path, wheel: Path):
    """Nothing that the tree has is missing. The page is built before it is packed, and none of its sources are in it;
    nor is what an earlier build left."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {
        f"{package.replace('.', '/')}/{file.name}"
        for package, folder in PARTS.items()
        for file in (ROOT / folder).iterdir()
        if file.suffix in {".py", ".sql"}
    }
    assert len(expected) > 100
    assert expected <= names
    page = {f"onsembl/{file.relative_to(sources)}" for file in (sources / "dashboard" / "dist" / "assets").iterdir()}
    assert page | {"onsembl/dashboard/dist/index.html"} <= names
    unwanted = ("/src/", "node_modules", "tests/", ".build-lock")
    assert not [name for name in names for part in unwanted if part in name]
    assert "onsembl/dashboard/package.json" not in names
    assert STALE not in names


def serves_the_page(folder: Path, command: list[str], cwd: Path, **environment: str) -> None:
    """Far from the sources, `onsembl up` answers with the page and is ready."""
    with ControlCenter(folder, command=command, cwd=cwd, environment=clean_environment(**environment)) as center:
        center.ready()
        assert "<title>" in center.get("/").text
        assert center.get("/readyz").json() == {"status": "ready"}
        assert center.get("/config.json").json()["version"] == PYPROJECT["project"]["version"]
        assert "Building" not in center.output


def test_a_wheel_serves_its_page(unpacked: Path, tmp_path: Path, folder: Path):
    """The wheel runs with the packages of the tests' environment."""
    where = "import onsembl.cli.main as main; print(main.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], env=clean_environment(PYTHONPATH=str(unpacked)), capture_output=True, text=True
    )
    assert found.stdout.startswith(str(unpacked)), "the sources were run, not the wheel"
    serves_the_page(folder, [sys.executable, "-m", "onsembl.cli.main"], tmp_path, PYTHONPATH=str(unpacked))


@pytest.mark.package
def test_an_installed_wheel_serves_the_page(wheel: Path, tmp_path: Path, empty_folder: Path):
    """In an empty environment."""
    environment = empty_folder / "environment"
    uv("venv", "--python", sys.executable, environment)
    uv("pip", "install", f"{wheel}[server]", VIRTUAL_ENV=str(environment))
    serves_the_page(empty_folder / "data", [str(environment / "bin" / "onsembl")], tmp_path)
    assert not [process for process in psutil.process_iter(["exe"]) if str(environment) in (process.info["exe"] or "")]


def needs_the_base_install_only(command: list[str], cwd: Path, **environment: str) -> None:
    """The agent's commands work, and the server's commands name the missing packages."""
    surroundings = {"env": clean_environment(**environment), "cwd": cwd, "capture_output": True, "text": True}
    assert "enrol" in subprocess.run([*command, "agent", "--help"], check=True, **surroundings).stdout
    refused = subprocess.run([*command, "up", "--demo"], check=False, **surroundings)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: ")
    assert ".whl[server]" in refused.stderr
    for subcommand in (["stop", "--all"], ["audit", "verify"], ["audit", "export"], ["agents", "list"]):
        unknown = subprocess.run([*command, *subcommand], check=False, **surroundings)
        assert (unknown.returncode, unknown.stderr.partition(": onsembl login")[0]) == (1, "Error: Sign in first")


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from onsembl.cli.main import main
main()
"""


def test_an_agents_machine_needs_the_base_install_only(unpacked: Path, tmp_path: Path):
    """The agent works while no package of the extra `server` can be imported."""
    names = modules_of(distributions("onsembl", "server") - distributions("onsembl"))
    assert {"psycopg", "starlette", "cryptography", "attr"} <= names and "httpx" not in names
    command = [sys.executable, "-c", WITHOUT.format(names=names)]
    needs_the_base_install_only(command, tmp_path, PYTHONPATH=str(unpacked))


@pytest.mark.package
def test_an_installed_agent_needs_the_base_install_only(wheel: Path, tmp_path: Path):
    """In an empty environment."""
    environment = tmp_path / "environment"
    uv("venv", "--python", sys.executable, environment)
    uv("pip", "install", wheel, VIRTUAL_ENV=str(environment))
    needs_the_base_install_only([str(environment / "bin" / "onsembl")], tmp_path)


def distributions(name: str, extra: str = "", found: set[tuple[str, str]] | None = None) -> set[str]:
    """The names of all direct and indirect requirements of a distribution."""
    found = set() if found is None else found
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for wanted in ["", *requirement.extras]:
                key = (canonicalize_name(requirement.name), wanted)
                if key not in found:
                    found.add(key)
                    distributions(*key, found)
    return {required for required, _ in found}


def modules_of(names: set[str]) -> set[str]:
    """The modules of the distributions."""
    return {
        module
        for module, owners in metadata.packages_distributions().items()
        if {canonicalize_name(owner) for owner in owners} <= names
    }
