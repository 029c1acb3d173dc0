"""The check of a coding CLI's program: whether it is there, starts, and is new enough."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from onsembl.agent.doctor.findings import Finding, fault, ok

VERSION_SECONDS = 30.0
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})")


@dataclass(frozen=True, slots=True)
class CodingCli:
    """A coding CLI: its program and name, its package of npm, and the oldest version that was seen working."""

    program: str
    name: str
    package: str
    oldest: tuple[int, int, int]

    @property
    def install(self) -> str:
        """How to install it."""
        return f"Install it with: npm install -g {self.package}"

    @property
    def update(self) -> str:
        """How to update it."""
        return f"Update it with: npm install -g {self.package}@latest"


def check_version(cli: CodingCli, environment: Mapping[str, str]) -> Finding:
    """Whether the program is there, starts, and is new enough."""
    path = shutil.which(cli.program, path=environment.get("PATH"))
    if path is None:
        return fault(
            cli.program, f"{cli.name} is missing: there is no program `{cli.program}` on the PATH.", cli.install
        )
    try:
        ended = subprocess.run(
            [path, "--version"],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return version_finding(cli, path, "", f"no answer in {VERSION_SECONDS:.0f} s")
    except OSError as error:
        return version_finding(cli, path, "", error.strerror or str(error))
    error = ended.stderr.decode(errors="replace").strip().splitlines()
    failed = (error[-1][:200] if error else f"exit {ended.returncode}") if ended.returncode else None
    return version_finding(cli, path, ended.stdout.decode(errors="replace"), failed)


def version_finding(cli: CodingCli, path: str, output: str, error: str | None) -> Finding:
    """The finding about the program at `path` whose `--version` printed `output`, or failed with `error`."""
    if error is not None:
        return fault(cli.program, f"`{path} --version` fails: {error}", cli.update)
    found = _VERSION.search(output)
    if found is None:
        return fault(
            cli.program, f"`{path} --version` prints no version: {output.strip()[:80] or 'nothing'}", cli.update
        )
    if tuple(map(int, found.groups())) < cli.oldest:
        oldest = ".".join(map(str, cli.oldest))
        return fault(cli.program, f"{cli.name} {found[0]} is too old; {oldest} or newer is needed.", cli.update)
    return ok(cli.program, f"{cli.name} {found[0]}, {path}")
