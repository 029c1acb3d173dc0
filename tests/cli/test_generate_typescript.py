"""The page's copy of the vocabulary."""

from __future__ import annotations

from onsembl.cli.server.generate_typescript import TARGET, typescript
from onsembl.protocol.states import CommandState


def test_committed_file_is_up_to_date() -> None:
    """The committed TypeScript is what the generator writes from the types of today."""
    assert TARGET.read_text(encoding="utf-8") == typescript(), (
        "./dev run python -m onsembl.cli.server.generate_typescript"
    )


def test_every_command_state_is_there() -> None:
    """The page knows each state that the database may hold."""
    text = typescript()
    assert all(f'"{state}"' in text for state in CommandState)
