"""`./dev screenshots` saves a picture of every page: on a desk, dark and light, on a laptop and on a phone."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from support.screenshots import PAGES, VIEWS

ROOT = Path(__file__).resolve().parents[2]


def test_every_page_has_a_picture():
    """The pictures cover each page of the dashboard's navigation."""
    source = (ROOT / "dashboard" / "src" / "lib" / "pages.ts").read_text()
    pages = [line for line in source.splitlines() if "{ id: " in line and "hidden: true" not in line]
    assert len(pages) > 5
    assert {re.search(r'id: "([a-z]+)"', line)[1] for line in pages} == set(PAGES) - {
        "sign-in",
        "fleet",
        "turn",
        "waiting",
        "alerts",
    }


@pytest.mark.package
@pytest.mark.timeout(600)
def test_the_pictures_are_saved(tmp_path: Path):
    """Each picture has its window's size, and no two are the same."""
    command = [sys.executable, "-m", "support.screenshots", str(tmp_path), "--scale", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    pictures = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    sizes = {f"{name}-{view}.png": (at.width, at.height) for name in PAGES for view, at in VIEWS.items()}
    assert {name: struct.unpack(">II", picture[16:24]) for name, picture in pictures.items()} == sizes
    assert len(set(pictures.values())) == len(pictures)
