"""Identifiers, each a type of its own so that a type checker finds mix-ups.

The server makes all of them.
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
"""Grows by one each time an agent connects. Only the instance with the newest epoch may write the agent's presence."""

Offset = NewType("Offset", int)
"""The position of a byte in a stream, counted from 0: `(StreamId, Offset)` identifies a byte for ever."""
