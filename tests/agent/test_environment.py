"""What a command finds in its environment."""

from __future__ import annotations

import pytest

from onsembl.agent.process.environment import command_environment


def test_a_command_knows_its_terminal_and_its_id():
    """Colours and cursor movements are those of the page's terminal."""
    environment = command_environment({"PATH": "/bin", "TERM": "dumb"}, "an-id")
    assert environment["PATH"] == "/bin"
    assert environment["TERM"] == "xterm-256color"
    assert environment["COLORTERM"] == "truecolor"
    assert environment["ONSEMBL_COMMAND_ID"] == "an-id"


def test_what_is_the_agents_own_is_withheld():
    """Its secret, and the size of whatever terminal it was started in."""
    own = {"ONSEMBL_ENROLMENT_TOKEN": "secret", "COLUMNS": "20", "LINES": "5"}
    assert not own.keys() & command_environment(own, "an-id").keys()


@pytest.mark.parametrize("own", [{}, {"LANG": "C"}, {"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}, {"LC_CTYPE": "C"}])
def test_output_is_utf_8(own):
    """Where the agent's own locale has another encoding, the command gets one that is."""
    environment = command_environment(own, "an-id")
    effective = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment["LANG"]
    assert effective.endswith("UTF-8")


@pytest.mark.parametrize("own", [{"LANG": "de_DE.UTF-8"}, {"LC_ALL": "en_US.utf8", "LANG": "C"}])
def test_a_locale_that_is_utf_8_is_kept(own):
    """The operator's language is the operator's."""
    assert own.items() <= command_environment(own, "an-id").items()
