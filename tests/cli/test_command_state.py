"""How the state of a command is shown on the command line."""

from __future__ import annotations

from typing import Any

from onsembl.cli.client.command_state import outcome, state_of

ENDED: dict[str, Any] = {
    "state": "succeeded",
    "exit_code": 0,
    "signal": None,
    "error": None,
    "steer_state": None,
    "denied": 0,
    "denials": [],
}
AMBER = "\x1b[33m{}\x1b[0m"


def test_a_success_that_was_denied_something_does_not_look_like_one():
    """It is amber, with the number of the denied calls in a list, and with their names at the end of the command."""
    denied = {**ENDED, "denied": 2, "denials": [{"tool": "Bash", "title": "curl x"}, {"tool": "Agent", "title": ""}]}
    assert (state_of(ENDED), outcome(ENDED)) == ("succeeded ", "succeeded")
    assert state_of(denied) == AMBER.format("succeeded, 2 not allowed")
    assert outcome(denied) == AMBER.format("succeeded, 2 not allowed: Bash curl x; Agent")


def test_a_command_that_failed_says_why():
    """Exit code, signal and error; its denied calls are named without a colour of their own."""
    failed = {**ENDED, "state": "failed", "exit_code": 1, "error": "No.", "denied": 1}
    failed["denials"] = [{"tool": "Bash", "title": "x"}]
    assert state_of(failed) == "failed, 1 not allowed"
    assert outcome(failed) == "failed, exit 1, No., 1 not allowed: Bash x"
    assert outcome({**ENDED, "state": "lost", "signal": 9}) == "lost, signal 9"
