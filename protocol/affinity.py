"""The machine at which the viewers of an agent belong. No I/O and no clock.

An agent that is connected has its terminal at the instance that holds its connection. For every other agent, and for an
id that no agent has, all instances choose the same machine: its viewers meet there, and nobody learns from the choice
which ids agents have.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b
from uuid import UUID

KEPT_SECONDS = 2.0
"""How long the machine of an agent is kept, in seconds. A connection to another instance is told at once."""
MAX_KEPT = 10_000
"""How many agents' machines are kept; the oldest are dropped."""
_FLY_SUFFIX = ".internal"


def fly_address(machine: str, app: str) -> str:
    """The address at which the machines of a Fly app reach this one, without a port."""
    return f"{machine}.vm.{app}{_FLY_SUFFIX}"


def machine_of(address: str) -> str | None:
    """The id of the Fly machine with this address and port; None for an address that is not Fly's."""
    host = address.rpartition(":")[0]
    return host.partition(".")[0] if host.endswith(_FLY_SUFFIX) else None


def preferred(machines: Collection[str], agent_id: UUID) -> str | None:
    """The machine for an agent that is not connected; None without machines.

    Rendezvous hashing: a machine that is added or removed moves only the agents that it gains or loses.
    """
    return max(machines, key=lambda machine: _weight(machine, agent_id), default=None)


def _weight(machine: str, agent_id: UUID) -> bytes:
    return blake2b(agent_id.bytes + machine.encode(), digest_size=8).digest()


class KeptMachines:
    """The machines of the agents that were asked for, each for `KEPT_SECONDS`."""

    def __init__(self) -> None:
        self._kept: dict[UUID, tuple[float, str | None]] = {}

    def keep(self, agent_id: UUID, machine: str | None, now: float) -> None:
        """Keep the machine of an agent, or that there is none, from the monotonic time `now` on."""
        self._kept.pop(agent_id, None)
        while len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[agent_id] = (now, machine)

    def get(self, agent_id: UUID, now: float) -> tuple[bool, str | None]:
        """Whether the machine of an agent is known at `now`, and which it is; None if there is none."""
        kept = self._kept.get(agent_id)
        if kept is None or now - kept[0] >= KEPT_SECONDS:
            return False, None
        return True, kept[1]

    def forget(self, agent_id: UUID | None = None) -> None:
        """Forget the machine of an agent; without one, of all."""
        if agent_id is None:
            self._kept.clear()
        else:
            self._kept.pop(agent_id, None)
