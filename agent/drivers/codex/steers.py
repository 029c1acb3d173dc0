"""The texts that are sent into a running turn of Codex, until Codex takes or refuses them."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from onsembl.agent.drivers.json_lines import Json
from onsembl.agent.drivers.json_rpc import JsonRpc
from onsembl.protocol.turn_events import TurnEvent

METHOD = "turn/steer"


class Steers:
    """The texts of one turn. A text is taken when Codex shows it as a message of the turn."""

    def __init__(self, rpc: JsonRpc) -> None:
        self._rpc = rpc
        self._texts: dict[UUID, str] = {}
        """The texts that Codex has not taken."""
        self._unanswered: dict[int, UUID] = {}
        """Those of them that Codex has neither accepted nor refused, by the number of the request."""

    @property
    def open(self) -> bool:
        """Whether Codex may still take a text."""
        return bool(self._texts)

    def add(self, steer_id: UUID, text: str, thread: str, turn: str) -> None:
        """Give Codex a text; it waits while the turn has no id."""
        self._texts[steer_id] = text
        if turn:
            self._send(steer_id, thread, turn)

    def send_all(self, thread: str, turn: str) -> None:
        """Send the texts that waited for the turn."""
        for steer_id in self._texts:
            self._send(steer_id, thread, turn)

    def refused(self, number: int) -> None:
        """Codex has refused a text."""
        if (steer_id := self._unanswered.pop(number, None)) is not None:
            self._texts.pop(steer_id, None)

    def take(self, text: str) -> UUID | None:
        """The id of the text that Codex has taken; None if it is not one of them."""
        taken = next((steer_id for steer_id, sent in self._texts.items() if sent == text), None)
        if taken is not None:
            del self._texts[taken]
        return taken

    def end_turn(self) -> None:
        """Wait for the answers that are due, and for no text that Codex has accepted and not taken."""
        unanswered = self._unanswered.values()
        self._texts = {steer_id: text for steer_id, text in self._texts.items() if steer_id in unanswered}

    def drop(self) -> None:
        """Wait for none of them any longer."""
        self._texts.clear()

    def _send(self, steer_id: UUID, thread: str, turn: str) -> None:
        told: list[Json] = [{"type": "text", "text": self._texts[steer_id]}]
        params = {"threadId": thread, "expectedTurnId": turn, "input": told}
        self._unanswered[self._rpc.ask(METHOD, lambda _: self._accepted(steer_id), **params)] = steer_id

    def _accepted(self, steer_id: UUID) -> Iterator[TurnEvent]:
        self._unanswered = {number: asked for number, asked in self._unanswered.items() if asked != steer_id}
        yield from ()
