"""Fails a test whose output or log shows a token: one made in this process, or text that looks like one.

It searches what pytest captured: log records from INFO up, and the output of this process and its child processes.
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
"""The tokens that this process has made."""
LIKE_A_TOKEN = re.compile(
    r"eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}"  # a JWT: access tokens of agents and operators
    r"|\b(?:onr|one|ond|onc)_[\w-]{20,}"  # refresh and enrolment tokens, device codes and recovery secrets of agents
    r"|\bsb_secret_\w{10,}"  # the project's secret key
)
SHORTEST = 16
"""Shorter random words are names, not secrets."""
WORDS = re.compile(rf"[\w.-]{{{SHORTEST},}}")


def leaks(text: str, made: AbstractSet[str]) -> list[str]:
    """The secrets in the text, each shortened."""
    words = {word.strip(".-") for word in WORDS.findall(text)}
    found = {match.group() for match in LIKE_A_TOKEN.finditer(text)} | (made & words)
    return sorted(f"{token[:12]}…" for token in found)


def remember_tokens() -> None:
    """Record every token that this process makes from now on."""
    _wrap(jwt, "encode")
    _wrap(secrets, "token_urlsafe")
    _wrap(RefreshToken, "text")


def _wrap(owner: Any, name: str) -> None:
    make: Callable[..., str] = getattr(owner, name)

    def recorded(*arguments: Any, **named: Any) -> str:
        token = make(*arguments, **named)
        if len(token) >= SHORTEST:
            MADE.add(token.strip("=.-"))  # `leaks` strips words in the same way.
        return token

    setattr(owner, name, recorded)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Search the captured output of each phase of each test."""
    report: pytest.TestReport = yield
    if report.outcome == "passed":
        shown = leaks("\n".join(text for _, text in report.sections), MADE)
        if shown:
            report.outcome = "failed"
            report.longrepr = f"the log of {item.nodeid} ({call.when}) shows secrets: {', '.join(shown)}"
    return report
