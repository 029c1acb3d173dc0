"""A newly installed Debian in a folder, to run `./dev` as somebody who has just cloned the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = "trixie"
CLONE = "/srv/onsembl"
USER = "newcomer"
# The new system reaches the package registries with the configuration of this machine.
FILES = ("/etc/resolv.conf", "/etc/pip.conf", "/etc/apt/apt.conf.d")
VARIABLES = re.compile(
    r"PIP_(?!FIND_LINKS).*|UV_.*INDEX.*|SSL_CERT_FILE|.*_CA_CERTS|.*_CA_BUNDLE|.*_PROXY", re.IGNORECASE
)
# /dev has terminals and shared memory. The shell stays as the first process of the namespace: it adopts orphaned
# processes, and all processes end with it.
ENTER = """
mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && chroot "$0" "$@"
exit $?
"""


@dataclass(frozen=True, slots=True)
class FreshSystem:
    """The system in `folder`."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def unpack(cls, archive: Path, folder: Path) -> FreshSystem:
        """A system of `archive_debian`, with a clone of the project that belongs to USER."""
        folder.mkdir()
        subprocess.run(["tar", "--extract", "--numeric-owner", "--file", archive, "--directory", folder], check=True)
        made = cls(folder, _reach_registries(folder))
        made.root("useradd", "--create-home", USER)
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
        for name in files.decode().rstrip("\0").split("\0"):
            if (ROOT / name).exists():
                _copy(ROOT / name, folder / CLONE.lstrip("/"), name)
        made.root("chown", "--recursive", f"{USER}:", CLONE)
        return made

    def with_packages(self, *packages: str) -> FreshSystem:
        """Install packages, and return the system."""
        self.root("apt-get", "update", "-q")
        self.root("apt-get", "install", "-q", "-y", "--no-install-recommends", *packages)
        return self

    def root(self, *command: str) -> None:
        """Run a command as root; it must succeed."""
        with self.start(command, user=None) as process:
            output, _ = process.communicate()
        assert process.returncode == 0, output

    def start(
        self,
        command: Sequence[str],
        user: str | None = USER,
        *,
        network: bool = True,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command in the clone, as a user or as root. The caller reads its output from `stdout`."""
        name = user or "root"
        home = "/root" if user is None else f"/home/{user}"
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        base = {"HOME": home, "USER": name, "PATH": path, "LANG": "C.UTF-8", **self.environment}
        namespaces = ["--mount", "--pid", "--fork", "--kill-child", *([] if network else ["--net"])]
        inside = ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups"]
        inside += ["env", f"--chdir={CLONE}" if (self.folder / CLONE.lstrip("/")).exists() else "--chdir=/"]
        return subprocess.Popen(
            ["unshare", *namespaces, "sh", "-c", ENTER, self.folder, *inside, *command],
            env={**base, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def remove(self) -> None:
        """Delete the system."""
        shutil.rmtree(self.folder)


def archive_debian(archive: Path, scratch: Path) -> None:
    """Write an archive of a new Debian with nothing but its essential packages; it is made in `scratch`."""
    root = scratch / "root"  # debootstrap makes it readable for everybody
    subprocess.run(["debootstrap", "--variant=minbase", SUITE, root], check=True, stdout=subprocess.DEVNULL)
    partial = archive.with_suffix(".partial")
    subprocess.run(["tar", "--create", "--numeric-owner", "--file", partial, "--directory", root, "."], check=True)
    partial.rename(archive)
    shutil.rmtree(root)


def _reach_registries(folder: Path) -> dict[str, str]:
    """Copy this machine's registry configuration; return the environment variables that belong to it."""
    for path in map(Path, FILES):
        _copy(path, folder)
    environment = {name: value for name, value in os.environ.items() if VARIABLES.fullmatch(name)}
    for name, value in environment.items():
        # Certificates go to a path of their own: a package of the new system owns the usual path.
        if Path(value).is_file():
            _copy(Path(value), folder, f"opt/registries/{name}")
            environment[name] = f"/opt/registries/{name}"
    return environment


def _copy(path: Path, into: Path, name: str | None = None) -> None:
    """Copy a file or folder to its own path below `into`, or to `name` below it."""
    to = into / (name or str(path).lstrip("/"))
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, to, dirs_exist_ok=True)
    elif path.exists():
        shutil.copy(path, to)
