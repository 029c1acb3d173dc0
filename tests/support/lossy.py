"""A way to the API that loses an answer."""

from __future__ import annotations

from support.agents import CuttableLink


class AnswerLost(CuttableLink):
    """Passes everything on, but for the answer to the first POST: in its place the connection breaks."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.lost = False
        self._asked = False

    def asks(self, data: bytes) -> bool:
        self._asked = self._asked or data.startswith(b"POST ")
        return True

    def answers(self, data: bytes) -> bool:
        if self._asked and not self.lost:
            self.lost = True
            self.cut()
            return False
        return True
