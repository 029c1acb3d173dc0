"""Identifiers, each a type of its own so that one cannot stand in for another.

All are minted by the server and bound to the credential that may use them.
"""

from __future__ import annotations

from typing import NewType
from uuid import UUID

AgentId = NewType("AgentId", UUID)
CommandId = NewType("CommandId", UUID)
InstanceId = NewType("InstanceId", UUID)
OperatorId = NewType("OperatorId", UUID)
StreamId = NewType("StreamId", UUID)

Epoch = NewType("Epoch", int)
"""Grows by one each time an agent connects; whoever writes an agent's presence must hold the newest."""

Offset = NewType("Offset", int)
"""Place of a byte in a stream, counted from 0: `(StreamId, Offset)` names a byte for ever."""
