"""Compare the archive of an agent's terminal with the bytes that the agent wrote."""

from __future__ import annotations

import asyncio
import time

from center import Center
from fleet_agents import HEADER, MAGIC, FleetAgent


class Frames:
    """Reads framed chunks, and detects a missing or changed chunk."""

    def __init__(self) -> None:
        self._rest = b""
        self.bytes = 0

    def feed(self, data: bytes) -> bool:
        """Read more bytes; return whether all are as they were written."""
        self.bytes += len(data)
        data = self._rest + data
        at = 0
        while len(data) - at >= HEADER.size:
            magic, _, length = HEADER.unpack_from(data, at)
            if magic != MAGIC or length < HEADER.size:
                return False
            if len(data) - at < length:
                break
            at += length
        self._rest = data[at:]
        return True

    @property
    def whole(self) -> bool:
        """Whether the bytes end with the end of a chunk."""
        return not self._rest


async def not_archived(center: Center, agent: FleetAgent, deadline: float) -> str | None:
    """What is wrong with the archive of an agent that writes no more; None when every byte of its stream is there.

    Raises aiohttp.ClientError.
    """
    while time.monotonic() < deadline:
        if (await center.get(f"/v1/streams/{agent.stream_id}"))["end"] >= agent.end:
            break
        await asyncio.sleep(0.1)
    frames = Frames()
    async with center.http.get(f"{center.url}/v1/streams/{agent.stream_id}/output", headers=center.headers) as answer:
        answer.raise_for_status()
        async for block in answer.content.iter_any():
            if not frames.feed(block):
                return f"bytes are missing before {frames.bytes}"
    if frames.bytes != agent.end or not frames.whole:
        return f"{frames.bytes} bytes of {agent.end}"
    return None
