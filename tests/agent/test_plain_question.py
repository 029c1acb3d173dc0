"""Questions in plain text of a CLI that should speak its protocol."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.agent.drivers.plain_question import MAX_QUESTION, PlainQuestion

ASKED = [
    "Do you trust the files in this folder? [y/N]",
    "Ok to proceed? (y) ",
    "Overwrite (yes/no)?",
    "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
    "Press Enter to continue...",
    "Password for 'https://example.org': ",
    "\x1b[1mTrust this folder?\x1b[0m ",
    "Paste code here:",
    "What now?\n\n",
]
SAID = ["Loading", "Done (3 files)", "warning: no key found", "100%", "https://example.org/?a=b", ""]


@pytest.mark.parametrize("text", ASKED)
def test_a_question_is_found(text: str):
    """In the output, and in the error output."""
    output, errors = PlainQuestion(), PlainQuestion()
    output.output(f"Hello\n{text}".encode())
    errors.errors(f"Hello\n{text}".encode())
    assert output.text == errors.text is not None
    assert output.text in text.replace("\x1b[1m", "").replace("\x1b[0m", "")


@pytest.mark.parametrize("text", SAID)
def test_other_lines_are_none(text: str):
    """Nor is a question that another line has followed."""
    found = PlainQuestion()
    found.output(b"Go on? [y/N] y\n" + text.encode() + b"\n...\n")
    found.errors(b"Go on? [y/N] y\n" + text.encode() + b"\n...\n")
    assert found.text is None


@given(st.lists(st.sampled_from([*ASKED, *SAID, '{"type": "a question?"}', "x" * 3000]), min_size=1), st.data())
def test_pieces_change_nothing(lines: list[str], data: st.DataObject):
    """However the output is cut, the same question stands last; a line of the protocol is none, however long."""
    output = "\n".join(lines).encode()
    whole, cut = PlainQuestion(), PlainQuestion()
    whole.output(output)
    place = 0
    while place < len(output):
        piece = data.draw(st.integers(1, 4000))
        cut.output(output[place : place + piece])
        place += piece
    assert whole.text == cut.text
    assert whole.text is None or len(whole.text) <= MAX_QUESTION


def test_a_tools_error_output_asks_nobody():
    """Once the CLI has spoken its protocol, its error output may be that of a tool."""
    found = PlainQuestion()
    found.errors(b"Proceed? [y/N]")
    assert found.text == "Proceed? [y/N]"
    found.output(b'{"type": "system"}\n')
    assert found.text is None
    found.output(b"Proceed? [y/N]")
    assert found.text == "Proceed? [y/N]"
