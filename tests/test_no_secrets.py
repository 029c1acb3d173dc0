"""No test's log shows a token. That every test is searched for them is tested here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.no_secrets import leaks

CAREFUL = "def test(): print('all is well')"
LEAKY = {
    "in the log": "import logging, jwt\ndef test(): logging.getLogger('x').info('for %s', jwt.encode({}, 'k' * 32))",
    "in the output": "import secrets\ndef test(): print('onr_' + secrets.token_urlsafe(32))",
    "by a child": "import subprocess\ndef test(): subprocess.run(['echo', 'GET /v1?token=one_' + 'x' * 40])",
    "as text alone": "import secrets\ndef test(): print(f'password: {secrets.token_urlsafe(24)}, remember it.')",
}


def run(tmp_path: Path, test: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "conftest.py").write_text(
        "from support.no_secrets import pytest_runtest_makereport, remember_tokens\nremember_tokens()\n"
    )
    (tmp_path / "test_it.py").write_text(test)
    support = Path(__file__).parent
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)),
            *("-o", f"pythonpath={support}", "-o", "log_level=INFO", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )


@pytest.mark.parametrize("test", LEAKY.values(), ids=LEAKY.keys())
def test_a_test_that_shows_a_token_fails(tmp_path: Path, test: str):
    """Whoever wrote it: a logger, the test's own output, a child process."""
    result = run(tmp_path, test)
    assert result.returncode == 1, result.stdout
    assert "shows secrets" in result.stdout


def test_a_test_that_shows_none_passes(tmp_path: Path):
    """And nothing else is taken for a token."""
    assert run(tmp_path, CAREFUL).returncode == 0


def test_a_token_is_found_within_its_surroundings():
    """In a URL, in quotes, at the end of a sentence; a part of it is not it."""
    made = {"q" * 20}
    for text in (f"GET /x?token={'q' * 20}&y", f"it was '{'q' * 20}'", f"Use {'q' * 20}."):
        assert leaks(text, made) == ["q" * 12 + "…"]
    assert leaks("q" * 19, made) == []
