"""The types of the whole project, checked beside the tests: on one core it takes as long as the longest of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.seconds(30)
def test_pyright_finds_no_error() -> None:
    """By the settings of pyproject.toml."""
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
