"""`./dev` sets up missing programs and packages only, passes arguments on, and ends each failure with one sentence.

The programs that `dev` calls are scripts here; tests/test_fresh_system.py sets up real systems with it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SYSTEM = ("bash", "cat", "chmod", "cp", "dirname", "env", "grep", "mkdir", "rm", "tail")
"""The programs that every system has."""
SYSTEMS_PYTHON = Path("/usr/bin/python3")
CHECKS = ["ruff check .", "ruff format --check ."]
NO_NETWORK = "error: Temporary failure in name resolution"

UV = """
case "$1" in
--version) exit 0 ;;
python) exit 0 ;;
esac
"""
INSTALL = 'mkdir -p "$FOLDER/.dev/uv/bin" && cp "$FOLDER/uv-to-install" "$FOLDER/.dev/uv/bin/uv"'


def python(*modules: str, venv: str = "true", pip: str = INSTALL) -> str:
    """A script that acts as a Python with these modules; `venv` and `pip` are the commands that its tools run."""
    absent = " | ".join(f"'-c import {name}'" for name in ("ensurepip", "pip") if name not in modules) or "none"
    environment = 'mkdir -p "$3/bin" && cp "$0" "$3/bin/python"'
    return f"""
case "$*" in
{absent}) exit 1 ;;
'-m venv '*) {venv} && {environment} ;;
'-m pip install '*) {pip} ;;
esac
"""


@dataclass(frozen=True)
class Machine:
    """A copy of `dev` in `folder`, on a machine that has only these programs; each call of a program is a line in
    `calls`."""

    folder: Path
    programs: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "programs", self.folder / "programs")
        self.programs.mkdir()
        for name in SYSTEM:
            (self.programs / name).symlink_to(shutil.which(name) or "")
        for name in ("dev", ".ci/run"):
            (self.folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        for name in ("tests/protocol", "tests/browser", "loadtests"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "loadtests" / "bench.py").touch()
        (self.folder / "loadtests" / "typing_bench.py").touch()
        self.has("useradd", "")
        self.has("top", "")
        self._write(self.folder / "uv-to-install", "uv", UV)

    def has(self, name: str, script: str) -> None:
        """Add a program with this name, which runs the script."""
        self._write(self.programs / name, name, script)

    def _write(self, path: Path, name: str, script: str) -> None:
        path.write_text(f'#!/bin/bash\nFOLDER="{self.folder}"\necho "{name} $*" >>"$FOLDER/calls"\n{script}\n')
        path.chmod(0o755)

    def run(self, *arguments: str, code: int = 0, command: str = "dev") -> str:
        """Run `dev`, check its exit code and return its output."""
        environment = {"PATH": str(self.programs), "HOME": str(self.folder)}
        result = subprocess.run(
            [self.folder / command, *arguments],
            env=environment,
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.returncode == code, result.stdout
        return result.stdout

    @property
    def calls(self) -> list[str]:
        """Every call so far."""
        return (self.folder / "calls").read_text().splitlines()

    @property
    def ran(self) -> list[str]:
        """The commands that ran in the project's environment, without the search for Chromium."""
        prefix = "uv run --no-sync "
        ran = [call.removeprefix(prefix) for call in self.calls if call.startswith(prefix)]
        return [call for call in ran if "support/chromium.py" not in call]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("arguments", [(), ("help",), ("--help",), ("-h",)])
def test_the_help_names_every_command(machine: Machine, arguments: tuple[str, ...]):
    """The help lists every command and sets up nothing."""
    said = machine.run(*arguments)
    commands = re.findall(r"^([a-z]+)\)", (ROOT / "dev").read_text(), re.MULTILINE)
    assert {"up", "test", "lint", "format", "types", "screenshots", "bench", "run"} <= set(commands)
    assert [name for name in commands if not re.search(rf"^  {name}\b", said, re.MULTILINE)] == []
    assert not (machine.folder / "calls").exists()


def test_an_unknown_command_is_an_error(machine: Machine):
    """An unknown command ends with exit code 2."""
    assert machine.run("tset", code=2) == "dev: There is no command named 'tset'; ./dev --help lists them.\n"


@pytest.mark.parametrize(
    ("arguments", "ran"),
    [
        (["up", "--demo", "--data-dir", "a b"], ["onsembl up --demo --data-dir a b"]),
        (["test"], [*CHECKS, "pytest"]),
        (["test", "--all"], [*CHECKS, "pytest --all"]),
        (["test", "--all", "-x"], ["pytest --all -x"]),
        (["test", "tests/protocol", "-k", "ring"], ["pytest tests/protocol -k ring"]),
        (["lint", "--fix"], ["ruff check --fix"]),
        (["format", "--check"], ["ruff format --check"]),
        (["types", "api"], ["pyright api"]),
        (["screenshots", "pictures"], ["python -m support.screenshots pictures"]),
        (["bench", "--quick"], ["python loadtests/bench.py --quick"]),
        (["bench", "typing", "--keys", "9"], ["python loadtests/typing_bench.py --keys 9"]),
        (["run", "onsembl", "--version"], ["onsembl --version"]),
    ],
)
def test_arguments_are_passed_on(machine: Machine, arguments: list[str], ran: list[str]):
    """After the packages are installed by the machine's uv, the arguments are passed on."""
    machine.has("uv", UV)
    machine.has("debootstrap", "")
    for program in ("pgbouncer", "nginx", "caddy"):
        machine.has(program, "")
    said = machine.run(*arguments)
    assert machine.ran == ran
    assert re.search(r"bringing the project's packages up to date: \d+ s\n", said)
    assert not (machine.folder / ".dev" / "uv").exists()


def test_a_failed_check_is_the_end(machine: Machine):
    """The exit code of a failed check ends `./dev test` and the run of CI before any test runs."""
    machine.has("uv", UV + 'case "$*" in *"format --check"*) exit 3 ;; esac')
    for command in ("dev", ".ci/run"):
        (machine.folder / "calls").unlink(missing_ok=True)
        machine.run(*(["test"] if command == "dev" else []), command=command, code=3)
        assert machine.ran == CHECKS[:2]


def test_the_run_of_ci_ends_with_the_tests(machine: Machine):
    """The last line of the run of CI is pytest's summary."""
    machine.has("uv", UV + 'case "$*" in *pytest*) echo "== 2542 passed in 300 s ==" ;; esac')
    assert machine.run(command=".ci/run").splitlines()[-1] == "== 2542 passed in 300 s =="
    assert machine.ran == [*CHECKS, "pytest"]


def test_a_benchmark_that_does_not_exist_is_an_error(machine: Machine):
    """The error for an unknown benchmark names the files that would contain it."""
    said = machine.run("bench", "speed", code=1)
    assert (
        said == "dev: There is no benchmark named 'speed': neither loadtests/speed.py nor loadtests/speed_bench.py.\n"
    )


# --- the Python


def test_a_python_without_optimisations_is_not_taken(machine: Machine):
    """A new environment gets the system's Python instead of one that was built without optimisations; an
    environment that exists keeps its own."""
    found = 'python) echo "$FOLDER/programs/found"; exit 0 ;;'
    machine.has("uv", UV.replace("python) exit 0 ;;", found))
    new_enough = [SYSTEMS_PYTHON, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    systems = SYSTEMS_PYTHON.exists() and subprocess.run(new_enough, check=False).returncode == 0

    def taken(is_optimised: bool) -> str:
        machine.has("found", f"exit {int(is_optimised)}")
        (machine.folder / "calls").unlink(missing_ok=True)
        machine.run("run", "true")
        return next(call for call in machine.calls if call.startswith("uv sync"))

    any_python = "uv sync --color never"
    assert taken(is_optimised=True) == any_python
    assert taken(is_optimised=False) == (f"{any_python} --python {SYSTEMS_PYTHON}" if systems else any_python)
    (machine.folder / ".venv").mkdir()
    assert taken(is_optimised=False) == any_python


# --- uv


def test_uv_is_installed_by_venv(machine: Machine):
    """venv installs uv into the project's folder, and the next run uses this uv."""
    machine.has("python3", python("ensurepip"))
    said = machine.run("run", "true")
    assert re.search(r"installing uv into \.dev by venv: \d+ s\n", said)
    assert machine.ran == ["true"] and (machine.folder / ".dev/uv/bin/uv").exists()
    assert "installing uv" not in machine.run("run", "true")


def test_uv_is_installed_by_virtualenv(machine: Machine):
    """virtualenv installs uv if Python has no venv."""
    machine.has("python3", python())
    machine.has("virtualenv", 'mkdir -p "$1/bin" && cp "${0%/*}/python3" "$1/bin/python"')
    assert "by virtualenv: " in machine.run("run", "true")
    assert machine.ran == ["true"]


def test_uv_is_installed_by_pipx(machine: Machine):
    """pipx installs uv with a home in the project's folder."""
    machine.has("python3", python())
    machine.has(
        "pipx", '[[ $PIPX_HOME == */.dev/pipx ]] && mkdir -p "$PIPX_BIN_DIR" && cp uv-to-install "$PIPX_BIN_DIR/uv"'
    )
    assert "by pipx: " in machine.run("run", "true")
    assert machine.ran == ["true"]


def test_uv_is_installed_by_pip(machine: Machine):
    """pip installs uv into its own folder, which a system's pip does not reject."""
    machine.has("python3", python("pip"))
    assert "by pip: " in machine.run("run", "true")
    (call,) = [call for call in machine.calls if "pip install" in call]
    assert f"--target {machine.folder}/.dev/uv uv" in call and "--break-system-packages" not in call


def test_a_way_to_uv_that_fails_is_followed_by_the_next(machine: Machine):
    """If one way to install uv fails, its files are removed and the next way is tried."""
    machine.has("python3", python("ensurepip", "pip", venv="false"))
    said = machine.run("run", "true")
    assert "by venv: failed after " in said and "by pip: " in said
    assert machine.ran == ["true"]


def test_a_uv_that_does_not_run_is_not_used(machine: Machine):
    """A `uv` that fails to run, such as a launcher of Python versions without one, is not used."""
    machine.has("uv", "exit 127")
    machine.has("python3", python("pip"))
    machine.run("run", "true")
    assert machine.ran == ["true"]


def test_a_machine_without_python_is_told_so(machine: Machine):
    """Without Python, the error is one sentence that names the missing package."""
    said = machine.run("up", "--demo", code=1)
    assert said == (
        "dev: Python 3.11 or newer is missing. Install it with venv (Debian, Ubuntu: apt-get install python3-venv).\n"
    )


def test_a_machine_without_a_way_to_uv_is_told_the_ways(machine: Machine):
    """If no way to install uv is available, the error names all ways, and none is tried."""
    machine.has("python3", python())
    said = machine.run("up", "--demo", code=1)
    assert said.startswith("dev: uv is missing, and so are venv, virtualenv, pipx and pip") and said.count("\n") == 1


def test_without_a_network_it_says_what_is_missing(machine: Machine):
    """Without a network, the error names the missing program, and pip's traceback is only in the log."""
    machine.has("python3", python("ensurepip", pip=f"printf 'Traceback:\\n{NO_NETWORK}\\n'; exit 1"))
    said = machine.run("up", "--demo", code=1)
    assert said.splitlines()[-1] == (
        "dev: uv is missing and could not be installed. No package index was reached: is there a network? "
        "Details are in .dev/log."
    )
    assert "Traceback" not in said and "Traceback" in (machine.folder / ".dev" / "log").read_text()


# --- the project's packages


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        (f"echo '{NO_NETWORK}'", "The project's packages could not be installed. No package index was reached: "),
        (
            "echo 'it does not fit'",
            "The project's packages could not be installed. The end of .dev/log: it does not fit",
        ),
    ],
)
def test_packages_that_cannot_be_installed_are_an_error(machine: Machine, fails: str, says: str):
    """A failed installation of packages is an error with its reason."""
    machine.has("uv", UV + f'case "$1" in sync) {fails}; exit 2 ;; esac')
    assert says in machine.run("up", code=1).splitlines()[-1]
    assert machine.ran == []


def test_a_python_that_is_too_old_is_an_error(machine: Machine):
    """A Python that is too old is an error if uv cannot download a newer one."""
    machine.has("uv", UV.replace("python) exit 0", "python | sync) exit 2"))
    assert "dev: Python 3.11 or newer is missing, and uv could not download one." in machine.run("up", code=1)


# --- system packages for the tests


@pytest.mark.parametrize(
    ("arguments", "looks"),
    [
        (["tests/protocol"], False),
        (["tests/protocol", "tests/browser/"], True),
        (["tests/"], True),
        (["-k", "ring"], True),
        (["--help"], False),
    ],
)
def test_chromium_is_looked_for_when_a_test_may_need_it(machine: Machine, arguments: list[str], looks: bool):
    """The arguments decide whether a test may need Chromium."""
    machine.has("uv", UV)
    machine.run("test", *arguments)
    assert any("support/chromium.py" in call for call in machine.calls) == looks


def test_a_missing_chromium_is_downloaded(machine: Machine):
    """Playwright downloads a missing Chromium."""
    machine.has("uv", UV + 'case "$*" in *chromium.py) exit 1 ;; esac')
    assert "downloading Playwright's Chromium: " in machine.run("test", "tests/browser")
    assert machine.ran == ["playwright install chromium", "pytest tests/browser"]


def test_a_chromium_that_cannot_be_had_is_an_error(machine: Machine):
    """The error for a Chromium that cannot be downloaded names the remedies."""
    machine.has("uv", UV + 'case "$*" in *chromium*) echo "getaddrinfo ENOTFOUND"; exit 1 ;; esac')
    said = machine.run("test", code=1).splitlines()[-1]
    assert said.startswith("dev: Chromium is missing and could not be downloaded; ")
    assert "is there a network?" in said and "apt-get install chromium" in said
    assert "ruff check ." not in machine.ran


@pytest.mark.parametrize(("candidate", "by_apt"), [("156.0.8078.79-1", True), ("(none)", False)])
def test_only_root_installs_packages_of_the_system(machine: Machine, candidate: str, by_apt: bool):
    """Only root installs missing system packages, and Chromium among them if the system has such a package, which
    Ubuntu does not."""
    machine.has("uv", UV + 'case "$*" in *chromium.py) exit 1 ;; esac')
    machine.has("apt-get", "")
    machine.has("apt-cache", f"echo '  Candidate: {candidate}'")
    (machine.programs / "top").unlink()
    machine.run("test", "tests/browser")
    root = os.geteuid() == 0
    asked = [call.split("--no-install-recommends ")[1] for call in machine.calls if call.startswith("apt-get install")]
    assert asked == ([] if not root else ["procps", "chromium-headless-shell"] if by_apt else ["procps"])
    downloads = (
        ["playwright install chromium"] if not root else [] if by_apt else ["playwright install --with-deps chromium"]
    )
    version = ["playwright --version"] if root else []
    assert machine.ran == [*version, *downloads, "pytest tests/browser"]


def test_root_gets_the_library_that_playwright_needs(machine: Machine):
    """Root installs the library without which Playwright neither finds nor downloads a browser."""
    machine.has("uv", UV + 'case "$*" in *playwright* | *chromium.py) [[ -e $FOLDER/library ]] || exit 127 ;; esac')
    machine.has("apt-get", '[[ $* != *libatomic1 ]] || echo >"$FOLDER/library"')
    root = os.geteuid() == 0
    said = machine.run("test", "tests/browser", code=0 if root else 1)
    assert ("installing libatomic1 (system package): " in said) == root


def test_root_gets_venv_where_there_is_no_other_way(machine: Machine):
    """Root installs venv as a system package if no other way to install uv exists; other users get an error."""
    machine.has("python3", python())
    machine.has("python3-with-venv", python("ensurepip"))
    machine.has("apt-get", 'case "$*" in install*python3-venv) cp "${0%/*}"/python3{-with-venv,} ;; esac')
    root = os.geteuid() == 0
    said = machine.run("run", "true", code=0 if root else 1)
    assert ("installing python3-venv (system packages): " in said) == root
    assert ("by venv: " in said) == root
