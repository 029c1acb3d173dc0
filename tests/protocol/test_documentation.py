"""The documentation of the protocol is complete."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec

from onsembl.protocol import messages
from onsembl.protocol.close_codes import CloseCode

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text()


def test_every_message_is_on_the_page():
    """The page has the tag of every message."""
    for union in (
        messages.AgentMessage,
        messages.ServerToAgentMessage,
        messages.ViewerMessage,
        messages.ServerToViewerMessage,
    ):
        for kind in get_args(union):
            assert f"`{msgspec.inspect.type_info(kind).tag}`" in PAGE


def test_every_close_code_is_on_the_page_with_what_to_do():
    """The page has every close code, and tells clients of a permanent code not to reconnect."""
    for code in CloseCode:
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {code.value} | {code.name} |"))
        assert ("stay away" in row) == code.is_permanent, row
