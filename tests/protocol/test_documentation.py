"""The page on the protocol tells of all of it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec

from onsembl.protocol import messages
from onsembl.protocol.close_codes import CloseCode

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text()


def test_every_message_is_on_the_page():
    """By its tag."""
    for union in (
        messages.AgentMessage,
        messages.ServerToAgentMessage,
        messages.ViewerMessage,
        messages.ServerToViewerMessage,
    ):
        for kind in get_args(union):
            assert f"`{msgspec.inspect.type_info(kind).tag}`" in PAGE


def test_every_close_code_is_on_the_page_with_what_to_do():
    """A code that is for good says to stay away, the others do not."""
    for code in CloseCode:
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {code.value} | {code.name} |"))
        assert ("stay away" in row) == code.is_permanent, row
