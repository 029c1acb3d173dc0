"""The receiving end of a relay, without a socket: past owners, and streams that do not fit."""

from __future__ import annotations

from typing import cast
from uuid import uuid4

from websockets.asyncio.client import ClientConnection

from onsembl.api.instances.relay_connection import RelayConnection
from onsembl.api.instances.relayed_terminal import RelayedTerminal
from onsembl.protocol.ids import AgentId, Epoch
from onsembl.protocol.messages import Attached, encode
from onsembl.protocol.relay_messages import Unwatch, Watch, Watched, encode_bytes
from onsembl.protocol.relay_streams import WINDOW_BYTES


def watching() -> tuple[RelayConnection, RelayedTerminal]:
    connection = RelayConnection(cast(ClientConnection, None))
    return connection, RelayedTerminal(2**20, AgentId(uuid4()), lambda _: None)


def watched(channel: int, epoch: int, offset: int = 0, **stream: object) -> str:
    attached = Attached(stream_id=stream.get("id", uuid4()), mode="tail", offset=offset, columns=80, rows=24)  # type: ignore[arg-type]
    return encode(Watched(channel=channel, epoch=epoch, attached=attached))


async def test_a_past_owner_is_not_listened_to():
    """Its answer is under an earlier epoch than is known here: it is left, and its bytes are dropped."""
    connection, terminal = watching()
    terminal.epoch = Epoch(2)
    channel = connection.watch(terminal, Epoch(1))
    connection._receive(watched(channel.number, 1))
    connection._receive(encode_bytes(channel.number, 0, b"old"))
    assert channel.ended.is_set() and not channel.watched
    assert (terminal.channel, terminal.stream_id, terminal.ring.end) == (None, None, 0)
    assert [type(message) for message in connection._outbox._queue] == [Watch, Unwatch]  # type: ignore[attr-defined]
    connection._receive(watched(connection.watch(terminal, Epoch(2)).number, 2))
    assert terminal.stream_id is not None and terminal.attached.is_set()


async def test_a_stream_that_does_not_fit_harms_no_other():
    """Bytes after a hole, or beyond the credit, end their own stream alone."""
    connection, terminal = watching()
    other = RelayedTerminal(2**20, AgentId(uuid4()), lambda _: None)
    for wrong in ((5, b"x"), (0, b"x" * (WINDOW_BYTES + 1))):
        channel, beside = connection.watch(terminal, Epoch(1)), connection.watch(other, Epoch(1))
        connection._receive(watched(channel.number, 1))
        connection._receive(watched(beside.number, 1))
        connection._receive(encode_bytes(channel.number, *wrong))
        connection._receive(encode_bytes(beside.number, 0, b"fine"))
        assert channel.ended.is_set() and terminal.channel is None
        assert not beside.ended.is_set() and other.ring.read(0, 10) == b"fine"
