"""What is shipped: a wheel with every module, the SQL and the page, which runs where there is nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import psutil
import pytest
from support.control_center import ControlCenter, clean_environment

from onsembl.cli.dashboard_build import build

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCES = shutil.ignore_patterns("node_modules", "__pycache__", "*.egg-info")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PARTS = {name: Path(path) for name, path in PYPROJECT["tool"]["setuptools"]["package-dir"].items()}

pytestmark = pytest.mark.timeout(600)  # the first run on a machine fetches packages


def uv(*arguments: object, **environment: str) -> None:
    program = os.environ.get("UV") or shutil.which("uv")
    assert program, "these tests are run by `uv run pytest`"
    # The environment that the tests run in is not the one to install into.
    surrounding = {name: value for name, value in clean_environment().items() if name != "VIRTUAL_ENV"}
    result = subprocess.run(
        [program, *map(str, arguments)], env=surrounding | environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def copy_of_the_sources(to: Path) -> Path:
    """What a clone has, without what is made in it."""
    for part in {path.parts[0] for path in PARTS.values()} | {"build_backend"}:
        shutil.copytree(ROOT / part, to / part, ignore=NOT_SOURCES)
    for name in ("pyproject.toml", "README.md", "MANIFEST.in"):
        shutil.copy(ROOT / name, to)
    return to


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as it is shipped."""
    build(ROOT / "dashboard", print)
    sources = copy_of_the_sources(tmp_path_factory.mktemp("sources"))
    uv("build", "--wheel", "--out-dir", sources / "wheel", sources)
    return next((sources / "wheel").glob("*.whl"))


def test_a_wheel_has_every_module_all_sql_and_the_page(wheel: Path):
    """Nothing that the tree has is missing, and none of the page's sources are in it."""
    names = names_in(wheel)
    expected = {
        f"{package.replace('.', '/')}/{file.name}"
        for package, folder in PARTS.items()
        for file in (ROOT / folder).iterdir()
        if file.suffix in {".py", ".sql"}
    }
    assert len(expected) > 100
    assert expected <= names
    page = {f"onsembl/{file.relative_to(ROOT)}" for file in (ROOT / "dashboard" / "dist" / "assets").iterdir()}
    assert page | {"onsembl/dashboard/dist/index.html"} <= names
    unwanted = ("/src/", "node_modules", "tests/", ".build-lock")
    assert not [name for name in names for part in unwanted if part in name]


def test_a_wheel_from_an_empty_tree_builds_the_page_first(tmp_path: Path):
    """What a build made earlier is packed only as far as it belongs to these sources."""
    sources = copy_of_the_sources(tmp_path)
    shutil.rmtree(sources / "dashboard")
    (sources / "dashboard").mkdir()
    (sources / "dashboard" / "package.json").write_text(
        '{"name": "page", "version": "1.0.0", "scripts": {"build": "node build.config.js"}}'
    )
    (sources / "dashboard" / "package-lock.json").write_text(
        '{"name": "page", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "page"}}}'
    )
    (sources / "dashboard" / "build.config.js").write_text(
        "const fs = require('fs'); fs.mkdirSync('dist'); fs.writeFileSync('dist/index.html', process.version)"
    )
    stale = sources / "build" / "lib" / "onsembl" / "cli" / "long_gone.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    uv("build", "--wheel", "--out-dir", tmp_path / "wheel", sources)
    names = names_in(next((tmp_path / "wheel").glob("*.whl")))
    assert "onsembl/dashboard/dist/index.html" in names
    assert "onsembl/cli/long_gone.py" not in names


def test_an_installed_wheel_serves_the_page(wheel: Path, tmp_path: Path, folder: Path):
    """In an empty environment, far from the sources, `onsembl up` answers with the page and is ready."""
    environment = folder / "environment"
    uv("venv", "--python", sys.executable, environment)
    uv("pip", "install", f"{wheel}[server]", VIRTUAL_ENV=str(environment))
    with ControlCenter(folder / "data", command=[str(environment / "bin" / "onsembl")], cwd=tmp_path) as center:
        center.ready()
        assert "<title>" in center.get("/").text
        assert center.get("/readyz").json() == {"status": "ready"}
        assert center.get("/config.json").json()["version"] == PYPROJECT["project"]["version"]
        assert "Building" not in center.said
    assert not [process for process in psutil.process_iter(["exe"]) if str(environment) in (process.info["exe"] or "")]


def test_an_agents_machine_needs_the_base_install_only(wheel: Path, tmp_path: Path):
    """Without the server's packages the agent's commands work, and the server's say what they miss."""
    environment = tmp_path / "environment"
    uv("venv", "--python", sys.executable, environment)
    uv("pip", "install", wheel, VIRTUAL_ENV=str(environment))
    command = str(environment / "bin" / "onsembl")
    surroundings = {"env": clean_environment(), "cwd": tmp_path, "capture_output": True, "text": True}
    assert "enrol" in subprocess.run([command, "agent", "--help"], check=True, **surroundings).stdout
    refused = subprocess.run([command, "up", "--demo"], check=False, **surroundings)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: ")
    assert "onsembl[server]" in refused.stderr
