"""Wheels of this project for tests: built from the sources, and of another version."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

from support.control_center import clean_environment

from onsembl.cli.server.dashboard_build import build

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCES = shutil.ignore_patterns("node_modules", "__pycache__", "*.egg-info")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PARTS = {name: Path(path) for name, path in PYPROJECT["tool"]["setuptools"]["package-dir"].items()}
STALE = "onsembl/cli/long_gone.py"
SMALL_PAGE = {
    "package.json": '{"name": "page", "version": "1.0.0", "scripts": {"build": "node build.config.js"}}',
    "package-lock.json": (
        '{"name": "page", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "page"}}}'
    ),
    "build.config.js": (
        "const fs = require('fs'); fs.mkdirSync('dist/assets', {recursive: true});"
        " fs.writeFileSync('dist/index.html', '<title>' + process.version + '</title>');"
        " fs.writeFileSync('dist/assets/page.js', '')"
    ),
}


def uv(*arguments: object, **environment: str) -> None:
    program = os.environ.get("UV") or shutil.which("uv")
    assert program, "these tests are run by `./dev test`"
    # The environment that the tests run in is not the one to install into.
    surrounding = {name: value for name, value in clean_environment().items() if name != "VIRTUAL_ENV"}
    result = subprocess.run(
        [program, *map(str, arguments)], env=surrounding | environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def copy_of_the_sources(to: Path, *, small_page: bool) -> Path:
    """What a clone has, without what is made in it; with the real page as it is built, or a small one that is not built
    yet."""
    parts = {path.parts[0] for path in PARTS.values()} | {"build_backend"}
    for part in parts - ({"dashboard"} if small_page else set()):
        shutil.copytree(ROOT / part, to / part, ignore=NOT_SOURCES)
    for name in ("pyproject.toml", "README.md", "MANIFEST.in"):
        shutil.copy(ROOT / name, to)
    if small_page:
        (to / "dashboard").mkdir()
        for name, text in SMALL_PAGE.items():
            (to / "dashboard" / name).write_text(text)
    return to


def built(folder: Path, *, small_page: bool) -> None:
    """A wheel in `folder/wheel`, beside the sources that it was built from."""
    if not small_page:
        build(ROOT / "dashboard", print)
    folder.mkdir()
    copy_of_the_sources(folder, small_page=small_page)
    stale = folder / "build" / "lib" / STALE  # an earlier build left it
    stale.parent.mkdir(parents=True)
    stale.touch()
    uv("build", "--wheel", "--out-dir", folder / "wheel", folder)


def sources_with_wheel(cluster: Path, *, small_page: bool) -> Path:
    """Sources with the wheel in `wheel/` that was built from them, once a run."""
    folder = cluster.parent / ("a-small-page" if small_page else "the-dashboard")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)  # of a build that failed, which the next test tries again
            built(partial, small_page=small_page)
            partial.rename(folder)
    return folder


def wheel_of(sources: Path) -> Path:
    """The wheel that was built from the sources."""
    return next((sources / "wheel").glob("*.whl"))


def as_version(wheel: Path, version: str, folder: Path) -> Path:
    """The wheel with another version, in `folder`."""
    former = wheel.name.split("-")[1]
    other = folder / wheel.name.replace(former, version)
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith((".dist-info/METADATA", ".dist-info/RECORD")):
                content = content.replace(f"Version: {former}".encode(), f"Version: {version}".encode())
                content = content.replace(f"onsembl-{former}.".encode(), f"onsembl-{version}.".encode())
            target.writestr(name.replace(f"onsembl-{former}.", f"onsembl-{version}."), content)
    return other
