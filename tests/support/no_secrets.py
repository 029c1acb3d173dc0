"""Fails a test whose output or log shows a token: those that were made in this process, and all that look like one.

What is searched is what pytest has captured: log records from INFO up, and all that this process and those that it
started have written.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

import jwt
import pytest

from onsembl.realtime.auth.refresh_tokens import RefreshToken

MADE: set[str] = set()
"""Tokens of the run, in this process."""
LIKE_A_TOKEN = re.compile(
    r"eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}"  # a JWT: access tokens of agents and operators
    r"|\b(?:onr|one|ond)_[\w-]{20,}"  # refresh tokens, enrolment tokens and device codes of agents
    r"|\bsb_secret_\w{10,}"  # the project's secret key
)
SHORTEST = 16
"""Shorter random words are names of things, not secrets."""
WORDS = re.compile(rf"[\w.-]{{{SHORTEST},}}")


def leaks(text: str, made: AbstractSet[str]) -> list[str]:
    """The secrets that the text shows, each cut short."""
    words = {word.strip(".-") for word in WORDS.findall(text)}
    found = {match.group() for match in LIKE_A_TOKEN.finditer(text)} | (made & words)
    return sorted(f"{token[:12]}…" for token in found)


def remember_tokens() -> None:
    """Note every token that is made from now on."""
    _wrap(jwt, "encode")
    _wrap(secrets, "token_urlsafe")
    _wrap(RefreshToken, "text")


def _wrap(owner: Any, name: str) -> None:
    make: Callable[..., str] = getattr(owner, name)

    def noted(*arguments: Any, **named: Any) -> str:
        token = make(*arguments, **named)
        if len(token) >= SHORTEST:
            MADE.add(token.strip("=.-"))  # as `leaks` takes words
        return token

    setattr(owner, name, noted)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Look through what each phase of each test has captured."""
    report: pytest.TestReport = yield
    if report.outcome == "passed":
        shown = leaks("\n".join(text for _, text in report.sections), MADE)
        if shown:
            report.outcome = "failed"
            report.longrepr = f"the log of {item.nodeid} ({call.when}) shows secrets: {', '.join(shown)}"
    return report
