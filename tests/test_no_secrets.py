"""No test's log shows a token. That every test is searched for them is tested here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from support.no_secrets import leaks

TESTS = """
import logging, secrets, subprocess
import jwt

def test_careful():
    print("all is well")

def test_shows_one_in_the_log():
    logging.getLogger("x").info("for %s", jwt.encode({}, "k" * 32))

def test_shows_one_in_the_output():
    print("onr_" + secrets.token_urlsafe(32))

def test_shows_one_by_a_child():
    subprocess.run(["echo", "GET /v1?token=one_" + "x" * 40])

def test_shows_one_as_text_alone():
    print(f"password: {secrets.token_urlsafe(24)}, remember it.")
"""


def test_a_test_that_shows_a_token_fails(tmp_path: Path):
    """Whoever wrote it: a logger, the test's own output, a child process. One that shows none passes: nothing else is
    taken for a token."""
    (tmp_path / "conftest.py").write_text(
        "from support.no_secrets import pytest_runtest_makereport, remember_tokens\nremember_tokens()\n"
    )
    (tmp_path / "test_it.py").write_text(TESTS)
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)),
            *("-o", f"pythonpath={Path(__file__).parent}", "-o", "log_level=INFO", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
    )
    assert result.returncode == 1, result.stdout
    shown = re.findall(r"^the log of \S+::(\w+) \(call\) shows secrets", result.stdout, re.MULTILINE)
    assert shown == re.findall(r"def (test_shows\w+)", TESTS), result.stdout
    assert "1 passed" in result.stdout and "test_careful" in result.stdout


def test_a_token_is_found_within_its_surroundings():
    """In a URL, in quotes, at the end of a sentence; a part of it is not it."""
    made = {"q" * 20}
    for text in (f"GET /x?token={'q' * 20}&y", f"it was '{'q' * 20}'", f"Use {'q' * 20}."):
        assert leaks(text, made) == ["q" * 12 + "…"]
    assert leaks("q" * 19, made) == []
