"""Compares the agents whose connections an instance holds with the agents that the database says it holds.

Both can differ after an instance was taken for dead and was not, after a message between instances was lost, or after
the end of a connection could not be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onsembl.protocol.ids import AgentId, Epoch, InstanceId


@dataclass(frozen=True, slots=True)
class Presence:
    """What the database says of an agent: `instance_id` has its connection; None when the agent is offline."""

    epoch: Epoch
    instance_id: InstanceId | None


@dataclass(frozen=True, slots=True)
class Differences:
    """What an instance has to do about one comparison."""

    superseded: dict[AgentId, Epoch] = field(default_factory=dict[AgentId, Epoch])
    """Connections to close for ever: the agent has a newer one."""
    lost: dict[AgentId, Epoch] = field(default_factory=dict[AgentId, Epoch])
    """Connections to close, so that their agents reconnect under a new epoch: the database counts them as lost."""
    gone: dict[AgentId, Epoch] = field(default_factory=dict[AgentId, Epoch])
    """Agents to mark offline, if the epoch is still the newest: their connections have ended."""


def differences(
    instance_id: InstanceId, held: Mapping[AgentId, Epoch], rows: Mapping[AgentId, Presence]
) -> Differences:
    """Compare the connections that this instance holds with the database's rows.

    `rows` has every agent in `held` that exists, and every agent that the database says is connected here.
    """
    found = Differences()
    for agent_id, epoch in held.items():
        row = rows.get(agent_id)
        if row is not None and row.epoch > epoch:
            found.superseded[agent_id] = epoch
        elif row is None or row != Presence(epoch, instance_id):
            found.lost[agent_id] = epoch
    for agent_id, row in rows.items():
        if row.instance_id == instance_id and agent_id not in held:
            found.gone[agent_id] = row.epoch
    return found
