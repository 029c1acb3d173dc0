"""The environment variables of a command."""

from __future__ import annotations

import pytest

from onsembl.agent.process.environment import command_environment


def test_a_command_gets_its_terminal_type_and_its_id():
    """The terminal type is that of the page's terminal."""
    environment = command_environment({"PATH": "/bin", "TERM": "dumb"}, "an-id")
    assert environment["PATH"] == "/bin"
    assert environment["TERM"] == "xterm-256color"
    assert environment["COLORTERM"] == "truecolor"
    assert environment["ONSEMBL_COMMAND_ID"] == "an-id"


def test_the_agents_own_variables_are_withheld():
    """They are its secret, and the size of the terminal that it was started in."""
    own = {"ONSEMBL_ENROLMENT_TOKEN": "secret", "COLUMNS": "20", "LINES": "5"}
    assert not own.keys() & command_environment(own, "an-id").keys()


@pytest.mark.parametrize("own", [{}, {"LANG": "C"}, {"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}, {"LC_CTYPE": "C"}])
def test_output_is_utf_8(own):
    """Where the agent's own locale has another encoding, the command gets a UTF-8 locale."""
    environment = command_environment(own, "an-id")
    effective = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment["LANG"]
    assert effective.endswith("UTF-8")


@pytest.mark.parametrize("own", [{"LANG": "de_DE.UTF-8"}, {"LC_ALL": "en_US.utf8", "LANG": "C"}])
def test_a_utf_8_locale_is_kept(own):
    """A command has the language of the agent's environment."""
    assert own.items() <= command_environment(own, "an-id").items()
