"""Finds the program of Codex."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

_TARGETS = {
    ("Linux", "x86_64"): ("codex-linux-x64", "x86_64-unknown-linux-musl"),
    ("Linux", "aarch64"): ("codex-linux-arm64", "aarch64-unknown-linux-musl"),
    ("Darwin", "x86_64"): ("codex-darwin-x64", "x86_64-apple-darwin"),
    ("Darwin", "arm64"): ("codex-darwin-arm64", "aarch64-apple-darwin"),
}
"""By system and machine: the npm package that has the binary, and the folder in it."""


def codex_program(name: str = "codex") -> str:
    """The binary that npm's starter script `name` runs; `name` if it is not that script, or its binary is not found.

    Under Node.js before 23.11 the script stays as the binary's parent: it takes 43 MB and 0.06 s of CPU, and when it is
    killed the binary goes on. Seen with version 0.171.
    """
    script = shutil.which(name)
    target = _TARGETS.get((platform.system(), platform.machine()))
    if script is None or target is None:
        return name
    path = Path(script).resolve()
    if path.name != "codex.js":
        return name
    package = path.parents[1]
    package_name, triple = target
    places = (package.parent / package_name, package / "node_modules" / "@openai" / package_name, package)
    binaries = (place / "vendor" / triple / "bin" / "codex" for place in places)
    return next((str(binary) for binary in binaries if binary.is_file()), name)
