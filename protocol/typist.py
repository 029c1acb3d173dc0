"""The keyboard messages of one client that the agent has not answered: sent again over the next connection. No I/O.

A long paste is sent part by part, each after the one before was typed. When a part is rejected, the rest of its
paste is dropped, so that no text is missing in its middle.
"""

from __future__ import annotations

from collections import deque
from uuid import UUID

from onsembl.protocol.keyboard_messages import MAX_KEYS, Keys, KeysTaken


class Typist:
    """The keys of one client, named by `client_id` and their numbers."""

    def __init__(self, client_id: UUID) -> None:
        self._client_id = client_id
        self._seq = 0
        self._unanswered: list[Keys] = []
        self._held: deque[tuple[str, bool]] = deque()
        """Parts that were not sent yet; True for one that follows another of the same paste."""

    @property
    def unanswered(self) -> list[Keys]:
        """The messages to send again after a reconnect."""
        return list(self._unanswered)

    def type(self, text: str) -> list[Keys]:
        """Type a text; return the messages to send now."""
        self._held += [(text[at : at + MAX_KEYS], at > 0) for at in range(0, len(text), MAX_KEYS)]
        return self._release()

    def answered(self, answer: KeysTaken) -> list[Keys]:
        """A message was typed or rejected; return the messages to send now."""
        self._unanswered = [keys for keys in self._unanswered if keys.seq != answer.seq]
        if answer.refused is not None and answer.seq == self._seq:
            while self._held and self._held[0][1]:
                self._held.popleft()
        return self._release()

    def _release(self) -> list[Keys]:
        released: list[Keys] = []
        while self._held:
            text, is_rest = self._held[0]
            if is_rest and self._unanswered and self._unanswered[-1].seq == self._seq:
                break
            self._held.popleft()
            self._seq += 1
            released.append(Keys(client_id=self._client_id, seq=self._seq, text=text))
            self._unanswered.append(released[-1])
        return released
