"""A message for many clients, encoded once for each version."""

from __future__ import annotations

import logging

from onsembl.realtime.channels.serializer import Message, Unencodable, Version, encode

logger = logging.getLogger(__name__)


class Shared:
    """Give every client the same one."""

    __slots__ = ("_encoded", "_message")

    def __init__(self, message: Message) -> None:
        self._message = message
        self._encoded: dict[Version, str | bytes | None] = {}

    def encoded(self, version: Version) -> str | bytes | None:
        """The frame; None when this version cannot say it."""
        if version not in self._encoded:
            try:
                self._encoded[version] = encode(self._message, version)
            except Unencodable as error:
                logger.info("A message is not for %s: %s", version, error, extra={"action": "realtime_unencodable"})
                self._encoded[version] = None
        return self._encoded[version]
