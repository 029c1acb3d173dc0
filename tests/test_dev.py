"""`./dev` sets up what is missing and nothing else, passes arguments on, and says in a sentence what it cannot do.

Here the programs that it calls are played; tests/test_fresh_systems.py has it set up real systems.
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
"""What every system has."""
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
    """A Python with these modules; how it makes an environment, and how its pip ends."""
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
    """A copy of `dev` in `folder`, on a machine with these programs only; each call of one is a line of `calls`."""

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
        """A program of this name, which ends as the script does."""
        self._write(self.programs / name, name, script)

    def _write(self, path: Path, name: str, script: str) -> None:
        path.write_text(f'#!/bin/bash\nFOLDER="{self.folder}"\necho "{name} $*" >>"$FOLDER/calls"\n{script}\n')
        path.chmod(0o755)

    def run(self, *arguments: str, code: int = 0, command: str = "dev") -> str:
        """What it says; it ends with this code."""
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
        """What was run in the project's environment, without the look for Chromium."""
        prefix = "uv run --no-sync "
        ran = [call.removeprefix(prefix) for call in self.calls if call.startswith(prefix)]
        return [call for call in ran if "support/chromium.py" not in call]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("arguments", [(), ("help",), ("--help",), ("-h",)])
def test_the_help_names_every_command(machine: Machine, arguments: tuple[str, ...]):
    """And sets up nothing."""
    said = machine.run(*arguments)
    commands = re.findall(r"^([a-z]+)\)", (ROOT / "dev").read_text(), re.MULTILINE)
    assert {"up", "test", "lint", "format", "types", "screenshots", "bench", "run"} <= set(commands)
    assert [name for name in commands if not re.search(rf"^  {name}\b", said, re.MULTILINE)] == []
    assert not (machine.folder / "calls").exists()


def test_an_unknown_command_is_an_error(machine: Machine):
    """With the code of a wrong use."""
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
    """After the project's packages are there; the machine's uv is used."""
    machine.has("uv", UV)
    machine.has("debootstrap", "")
    said = machine.run(*arguments)
    assert machine.ran == ran
    assert re.search(r"bringing the project's packages up to date: \d+ s\n", said)
    assert not (machine.folder / ".dev" / "uv").exists()


def test_a_failed_check_is_the_end(machine: Machine):
    """Its exit code is that of `./dev test`, and of the run of CI, and no test runs."""
    machine.has("uv", UV + 'case "$*" in *"format --check"*) exit 3 ;; esac')
    for command in ("dev", ".ci/run"):
        (machine.folder / "calls").unlink(missing_ok=True)
        machine.run(*(["test"] if command == "dev" else []), command=command, code=3)
        assert machine.ran == CHECKS[:2]


def test_the_run_of_ci_ends_with_the_tests(machine: Machine):
    """What pytest says comes last."""
    machine.has("uv", UV + 'case "$*" in *pytest*) echo "== 2542 passed in 300 s ==" ;; esac')
    assert machine.run(command=".ci/run").splitlines()[-1] == "== 2542 passed in 300 s =="
    assert machine.ran == [*CHECKS, "pytest"]


def test_a_benchmark_that_does_not_exist_is_an_error(machine: Machine):
    """The files that would have had it are named."""
    said = machine.run("bench", "speed", code=1)
    assert (
        said == "dev: There is no benchmark named 'speed': neither loadtests/speed.py nor loadtests/speed_bench.py.\n"
    )


# --- uv


def test_uv_is_installed_by_venv(machine: Machine):
    """Into the project's folder, and the next time it is there."""
    machine.has("python3", python("ensurepip"))
    said = machine.run("run", "true")
    assert re.search(r"installing uv into \.dev by venv: \d+ s\n", said)
    assert machine.ran == ["true"] and (machine.folder / ".dev/uv/bin/uv").exists()
    assert "installing uv" not in machine.run("run", "true")


def test_uv_is_installed_by_virtualenv(machine: Machine):
    """Where Python has no venv."""
    machine.has("python3", python())
    machine.has("virtualenv", 'mkdir -p "$1/bin" && cp "${0%/*}/python3" "$1/bin/python"')
    assert "by virtualenv: " in machine.run("run", "true")
    assert machine.ran == ["true"]


def test_uv_is_installed_by_pipx(machine: Machine):
    """In a home of the project's own."""
    machine.has("python3", python())
    machine.has(
        "pipx", '[[ $PIPX_HOME == */.dev/pipx ]] && mkdir -p "$PIPX_BIN_DIR" && cp uv-to-install "$PIPX_BIN_DIR/uv"'
    )
    assert "by pipx: " in machine.run("run", "true")
    assert machine.ran == ["true"]


def test_uv_is_installed_by_pip(machine: Machine):
    """Into a folder of its own, which no system's pip refuses."""
    machine.has("python3", python("pip"))
    assert "by pip: " in machine.run("run", "true")
    (call,) = [call for call in machine.calls if "pip install" in call]
    assert f"--target {machine.folder}/.dev/uv uv" in call and "--break-system-packages" not in call


def test_a_way_to_uv_that_fails_is_followed_by_the_next(machine: Machine):
    """What it left is removed."""
    machine.has("python3", python("ensurepip", "pip", venv="false"))
    said = machine.run("run", "true")
    assert "by venv: failed after " in said and "by pip: " in said
    assert machine.ran == ["true"]


def test_a_uv_that_does_not_run_is_not_used(machine: Machine):
    """A launcher of Python versions has the name, and nothing behind it."""
    machine.has("uv", "exit 127")
    machine.has("python3", python("pip"))
    machine.run("run", "true")
    assert machine.ran == ["true"]


def test_a_machine_without_python_is_told_so(machine: Machine):
    """In one sentence."""
    said = machine.run("up", "--demo", code=1)
    assert said == (
        "dev: Python 3.11 or newer is missing. Install it with venv (Debian, Ubuntu: apt-get install python3-venv).\n"
    )


def test_a_machine_without_a_way_to_uv_is_told_the_ways(machine: Machine):
    """Nothing was tried."""
    machine.has("python3", python())
    said = machine.run("up", "--demo", code=1)
    assert said.startswith("dev: uv is missing, and so are venv, virtualenv, pipx and pip") and said.count("\n") == 1


def test_without_a_network_it_says_what_is_missing(machine: Machine):
    """No traceback of pip's: it is in the log."""
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
    """With the reason."""
    machine.has("uv", UV + f'case "$1" in sync) {fails}; exit 2 ;; esac')
    assert says in machine.run("up", code=1).splitlines()[-1]
    assert machine.ran == []


def test_a_python_that_is_too_old_is_an_error(machine: Machine):
    """Unless uv can download another."""
    machine.has("uv", UV.replace("python) exit 0", "python | sync) exit 2"))
    assert "dev: Python 3.11 or newer is missing, and uv could not download one." in machine.run("up", code=1)


# --- what the tests need of the system


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
    """The arguments tell."""
    machine.has("uv", UV)
    machine.run("test", *arguments)
    assert any("support/chromium.py" in call for call in machine.calls) == looks


def test_a_missing_chromium_is_downloaded(machine: Machine):
    """By Playwright."""
    machine.has("uv", UV + 'case "$*" in *chromium.py) exit 1 ;; esac')
    assert "downloading Playwright's Chromium: " in machine.run("test", "tests/browser")
    assert machine.ran == ["playwright install chromium", "pytest tests/browser"]


def test_a_chromium_that_cannot_be_had_is_an_error(machine: Machine):
    """It names what may be done."""
    machine.has("uv", UV + 'case "$*" in *chromium*) echo "getaddrinfo ENOTFOUND"; exit 1 ;; esac')
    said = machine.run("test", code=1).splitlines()[-1]
    assert said.startswith("dev: Chromium is missing and could not be downloaded; ")
    assert "is there a network?" in said and "apt-get install chromium" in said
    assert "ruff check ." not in machine.ran


@pytest.mark.parametrize(("candidate", "by_apt"), [("156.0.8078.79-1", True), ("(none)", False)])
def test_only_root_installs_packages_of_the_system(machine: Machine, candidate: str, by_apt: bool):
    """The missing ones; Chromium where it is one, which on Ubuntu it is not. Nobody else has packages installed."""
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
    """Without it Playwright neither finds nor downloads a browser."""
    machine.has("uv", UV + 'case "$*" in *playwright* | *chromium.py) [[ -e $FOLDER/library ]] || exit 127 ;; esac')
    machine.has("apt-get", '[[ $* != *libatomic1 ]] || echo >"$FOLDER/library"')
    root = os.geteuid() == 0
    said = machine.run("test", "tests/browser", code=0 if root else 1)
    assert ("installing libatomic1 (system package): " in said) == root


def test_root_gets_venv_where_there_is_no_other_way(machine: Machine):
    """As a package of the system; somebody else is told to install one."""
    machine.has("python3", python())
    machine.has("python3-with-venv", python("ensurepip"))
    machine.has("apt-get", 'case "$*" in install*python3-venv) cp "${0%/*}"/python3{-with-venv,} ;; esac')
    root = os.geteuid() == 0
    said = machine.run("run", "true", code=0 if root else 1)
    assert ("installing python3-venv (system packages): " in said) == root
    assert ("by venv: " in said) == root
