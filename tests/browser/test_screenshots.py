"""`./dev screenshots` saves a picture of every page, dark and light."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from support.screenshots import PAGES, SIZE, THEMES

ROOT = Path(__file__).resolve().parents[2]


def test_every_page_has_a_picture():
    """The pictures cover each page of the dashboard's navigation."""
    source = (ROOT / "dashboard" / "src" / "lib" / "pages.ts").read_text()
    pages = [line for line in source.splitlines() if "{ id: " in line and "hidden: true" not in line]
    assert len(pages) > 5
    assert {re.search(r'id: "([a-z]+)"', line)[1] for line in pages} == set(PAGES) - {"sign-in", "fleet", "turn"}


@pytest.mark.package
@pytest.mark.timeout(300)
def test_the_pictures_are_saved(tmp_path: Path):
    """Each picture has the page's size, and no two are the same."""
    command = [sys.executable, "-m", "support.screenshots", str(tmp_path), "--scale", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    pictures = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(pictures) == {f"{name}-{theme}.png" for name in PAGES for theme in THEMES}
    assert {struct.unpack(">II", picture[16:24]) for picture in pictures.values()} == {SIZE}
    assert len(set(pictures.values())) == len(pictures)
