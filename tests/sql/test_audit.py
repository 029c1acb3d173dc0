"""The audit log's actions are defined in one place, and the documentation lists them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from onsembl.realtime.auth.events import Action
from onsembl.sql.audit import ACTIONS, SYSTEM, Event

ROOT = Path(__file__).resolve().parents[2]


def test_every_action_is_on_the_page_as_it_is_in_the_code():
    """The documentation has every action with the same description and in the same order as the code."""
    page = (ROOT / "docs" / "audit.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)` \| (.+) \|$", page, re.MULTILINE)
    assert rows == sorted(ACTIONS.items())


def test_an_action_that_nobody_knows_is_not_written():
    """An action without a definition is not written."""
    with pytest.raises(ValueError, match=r"agent\.vanished"):
        Event(actor=SYSTEM, action="agent.vanished")


def test_every_action_that_the_code_names_is_known():
    """Every action in the code has a definition, even if no test writes it."""
    named = {f"operator.{action}" for action in Action.__args__}
    for part in ("agent", "api", "cli", "fleet", "realtime", "sql", "tasks"):
        for path in (ROOT / part).rglob("*.py"):
            named |= set(re.findall(r'\baction="([a-z_]+\.[a-z_]+)"', path.read_text()))
    assert len(named) > 15
    assert named - ACTIONS.keys() == set()
