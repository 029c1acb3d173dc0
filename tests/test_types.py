"""The types of the whole project, checked beside the tests: on one core it takes as long as the longest of them."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest
from support.checked import ROOT, check_once

PYPROJECT = ROOT / "pyproject.toml"


@pytest.mark.seconds(60)
@pytest.mark.timeout(600)  # one process of a tool that takes a whole core's time: beside others it takes long
def test_pyright_finds_no_error(pytestconfig: pytest.Config) -> None:
    """By the settings of pyproject.toml."""

    def check() -> None:
        command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr

    folders = tomllib.loads(PYPROJECT.read_text())["tool"]["pyright"]["include"]
    sources = [file for folder in folders for file in (ROOT / folder).rglob("*.py*")]
    check_once(pytestconfig, "types", [PYPROJECT, *(file for file in sources if file.suffix in (".py", ".pyi"))], check)
