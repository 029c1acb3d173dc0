"""A link to the API that loses one answer."""

from __future__ import annotations

from support.agents import CuttableLink


class LossyLink(CuttableLink):
    """Breaks the connection in the place of the answer to the first POST, and passes everything else on."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.lost = False
        self._posted = False

    def passes_request(self, data: bytes) -> bool:
        self._posted = self._posted or data.startswith(b"POST ")
        return True

    def passes_answer(self, data: bytes) -> bool:
        if self._posted and not self.lost:
            self.lost = True
            self.cut()
            return False
        return True
