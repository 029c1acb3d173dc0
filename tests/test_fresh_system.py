"""`./dev` on a newly installed Debian, for root and for others: nothing but the two commands is needed.

The systems are made by debootstrap, so that these tests are root's; they fetch packages from the registries.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.fresh_system import CLONE, SUITE, USER, FreshSystem, archive_debian

pytestmark = [
    pytest.mark.package,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can enter another file system"),
]

KEPT_SECONDS = 24 * 3600
"""A system of yesterday is made anew: its packages may have been replaced since."""
Fresh = Callable[..., FreshSystem]


@pytest.fixture(scope="session")
def debian(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of a new Debian, made once a day."""
    assert shutil.which("debootstrap"), "these tests need debootstrap; `./dev test --all` installs it"
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("systems")
    archive = folder / f"{SUITE}.tar"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists() or time.time() - archive.stat().st_mtime > KEPT_SECONDS:
            archive_debian(archive, tmp_path_factory.mktemp("debian"))
    return archive


@pytest.fixture
def fresh(debian: Path, tmp_path: Path) -> Iterator[Fresh]:
    """Makes a system with a clone of the project, and with these packages."""
    made: list[FreshSystem] = []

    def make(*packages: str) -> FreshSystem:
        made.append(FreshSystem.unpack(debian, tmp_path / "system"))
        return made[-1].with_packages(*packages) if packages else made[-1]

    yield make
    for system in made:
        system.remove()


def dev(system: FreshSystem, *arguments: str, user: str | None = USER, network: bool = True, code: int = 0) -> str:
    """What `./dev` says; it ends with this code."""
    with system.start(["./dev", *arguments], user, network=network) as process:
        said = "".join(_lines(process))
    assert process.returncode == code, said
    return said


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines of a process, printed as they come, so that `-s` shows them also of a test that is stopped."""
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        yield line


def ready(system: FreshSystem, user: str | None = USER, *, network: bool = True) -> str:
    """What `./dev up --demo` says until it is ready; then it is ended."""
    said = ""
    with system.start(["./dev", "up", "--demo", "--port", "0"], user, network=network) as process:
        for line in _lines(process):
            said += line
            if "Onsembl is ready at" in line:
                process.kill()  # and with it the namespace of its processes
    assert "Onsembl is ready at" in said
    return said


def test_root_starts_the_demo_where_there_is_not_even_python(fresh: Fresh):
    """python3-venv is installed for uv; the second start needs no network, and the tests run."""
    system = fresh()
    said = ready(system, user=None)
    assert "installing python3-venv (system packages): " in said and "installing uv into .dev by venv: " in said
    again = ready(system, user=None, network=False)
    assert "installing" not in again
    assert re.search(r"\d+ passed", dev(system, "test", "tests/protocol", user=None).splitlines()[-1])


def test_root_gets_chromium_with_the_tests_that_need_it(fresh: Fresh):
    """Debian's pip refuses to install uv for the whole system; its pip installs it for the project."""
    system = fresh("python3", "python3-pip")
    assert "externally-managed" in refused(system)
    said = dev(system, "test", "tests/browser/test_app.py", "-k", "wrong_password", user=None)
    assert (
        "installing uv into .dev by pip: " in said and "installing chromium-headless-shell (system package): " in said
    )
    assert re.search(r"1 passed", said.splitlines()[-1])


def refused(system: FreshSystem) -> str:
    """What pip says to the usual way to install uv."""
    with system.start(["python3", "-m", "pip", "install", "uv"], None) as process:
        said, _ = process.communicate()
    assert process.returncode != 0
    return said


def test_a_user_starts_the_demo_and_runs_tests(fresh: Fresh):
    """With python3-venv alone, and no Chromium for tests that need none."""
    system = fresh("python3-venv")
    assert "installing uv into .dev by venv: " in ready(system)
    said = dev(system, "test", "tests/protocol")
    assert re.search(r"\d+ passed", said.splitlines()[-1]) and "Chromium" not in said


@pytest.mark.parametrize(
    ("installed", "way"), [(["python3-pip"], "pip"), (["virtualenv"], "virtualenv"), (["pipx"], "venv")]
)
def test_uv_comes_by_what_there_is(fresh: Fresh, installed: list[str], way: str):
    """Debian's pipx brings venv, which is tried first."""
    said = dev(fresh("python3", *installed), "run", "onsembl", "--version")
    assert f"installing uv into .dev by {way}: " in said
    assert said.splitlines()[-1].startswith("onsembl, version ")


def test_a_users_uv_is_used(fresh: Fresh):
    """Where the project's own installer put it, which may not be on the PATH."""
    system = fresh("python3")
    show = [os.environ.get("UV", "uv"), "run", "--no-project", "printenv", "UV"]  # `uv` may be a launcher of it
    program = subprocess.run(show, check=True, capture_output=True, text=True).stdout.strip()
    bin_folder = system.folder / "home" / USER / ".local" / "bin"
    bin_folder.mkdir(parents=True)
    shutil.copy(program, bin_folder / "uv")
    system.root("chown", "--recursive", f"{USER}:", f"/home/{USER}")
    said = dev(system, "run", "onsembl", "--version")
    assert "installing uv" not in said and not (system.folder / CLONE.lstrip("/") / ".dev" / "uv").exists()


@pytest.mark.parametrize(
    ("installed", "user", "network", "says"),
    [
        ([], USER, True, "Python 3.11 or newer is missing."),
        (["python3"], USER, True, "uv is missing, and so are venv, virtualenv, pipx and pip"),
        ([], None, False, "System packages are missing and could not be installed: python3-venv. No package index"),
        (["python3-venv"], USER, False, "uv is missing and could not be installed. No package index was reached"),
    ],
)
def test_what_is_missing_is_said(fresh: Fresh, installed: list[str], user: str | None, network: bool, says: str):
    """In the last line, without a traceback."""
    said = dev(fresh(*installed), "up", "--demo", user=user, network=network, code=1)
    assert said.splitlines()[-1].startswith(f"dev: {says}")
    assert "Traceback" not in said
