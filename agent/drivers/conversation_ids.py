"""The ids that a CLI has chosen for its conversations, by the ids that the control center has chosen for them.

Some CLIs choose the id of a new conversation. The agent keeps it on its disk before it sends the prompt:
then a conversation continues after any kill of the agent, the CLI or the server.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from onsembl.agent.link.durable import replace_file
from onsembl.protocol.turn_messages import TurnSettings


class ConversationIds:
    """A folder with a file for each conversation."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, conversation: str) -> str | None:
        """The CLI's id; None for a conversation that it has not begun here. Raises OSError."""
        try:
            return self._path(conversation).read_text() or None
        except FileNotFoundError:
            return None

    def put(self, conversation: str, cli_id: str) -> None:
        """Keep the CLI's id, so that it survives a crash of the machine. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self._path(conversation), [cli_id.encode()])

    def _path(self, conversation: str) -> Path:
        return self._folder / hashlib.sha256(conversation.encode()).hexdigest()

    def known(self, turn: TurnSettings | None) -> str | None:
        """The CLI's id of the conversation that a turn continues, which may have been begun outside of the agent; None
        to begin one. Raises OSError."""
        if turn is None:
            return None
        return self.get(turn.conversation) or (turn.conversation if turn.known else None)
