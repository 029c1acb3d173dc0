"""The page's types are generated from Python's."""

from __future__ import annotations

from onsembl.cli.server.generate_typescript import PROTOCOL, REST, protocol_types, rest_header
from onsembl.protocol.states import CommandState

REMEDY = "./dev run python -m onsembl.cli.server.generate_typescript"


def test_protocol_types_are_up_to_date() -> None:
    """The committed `protocol.ts` is what the generator writes from the present types."""
    assert PROTOCOL.read_text(encoding="utf-8") == protocol_types(), REMEDY


def test_rest_types_are_up_to_date() -> None:
    """The committed `rest.ts` was generated from the present OpenAPI document, whose hash it has."""
    assert REST.read_text(encoding="utf-8").startswith(rest_header()), REMEDY


def test_protocol_types_have_every_command_state() -> None:
    """The page knows each state that the database may hold."""
    text = protocol_types()
    assert all(f'"{state}"' in text for state in CommandState)
