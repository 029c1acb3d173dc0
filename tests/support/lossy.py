"""A way to the API that loses an answer."""

from __future__ import annotations

import asyncio

from support.agents import CuttableLink


class AnswerLost(CuttableLink):
    """Passes everything on, but for the answer to the first POST: in its place the connection breaks."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.lost = False
        self._asked = False

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self._asked = self._asked or data.startswith(b"POST ")
                if self._asked and not self.lost and data.startswith(b"HTTP/1.1 "):
                    self.lost = True
                    self.cut()
                    return
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
