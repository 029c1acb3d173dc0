"""What every instance is told, and does: operators, agents and keys are shut out while they are here, the fleet is
halted."""

from __future__ import annotations

import logging

from onsembl.api.instances.halting import tell_all
from onsembl.api.services import Services
from onsembl.fleet.instance_messages import Broadcast
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.ids import AgentId, OperatorId
from onsembl.sql import agents, operators

logger = logging.getLogger(__name__)

AGENT_DISABLED = "this agent is disabled"
CREDENTIALS_ENDED = "the agent's credentials are not good any more"


async def obey(services: Services, broadcast: Broadcast) -> None:
    """Do what every instance was told to."""
    match broadcast.op:
        case "operator_changed":
            assert broadcast.operator_id is not None
            await _operators_changed(services, OperatorId(broadcast.operator_id))
        case "keys_changed":
            await services.agent_keys.load()  # the connections of keys that are gone end by themselves
        case "operator_keys_changed":
            await _operator_keys_changed(services)
        case "halt_changed":
            await tell_all(services.hub, services.background_tasks.start)


async def disconnect_agent(services: Services, agent_id: AgentId, code: CloseCode, reason: str) -> None:
    """End the agent's connection here, also one that is just being made."""
    async with services.hub.connecting[agent_id]:
        services.hub.close(agent_id, code, reason)


async def recheck(services: Services) -> None:
    """As if all had been said anew: after something may have been missed."""
    await services.agent_keys.load()
    await _operator_keys_changed(services)
    await _operators_changed(services, None)
    await tell_all(services.hub, services.background_tasks.start)
    here = dict(services.presence.admitted)
    async with services.pool.connection() as conn:
        rows = await agents.shut_out_since(conn, {agent_id: let_in.issued_at for agent_id, let_in in here.items()})
    for row in rows:
        agent_id = AgentId(row["id"])
        async with services.hub.connecting[agent_id]:
            if services.presence.admitted.get(agent_id) is here[agent_id]:
                reason = AGENT_DISABLED if row["disabled"] else CREDENTIALS_ENDED
                services.hub.close(agent_id, CloseCode.REVOKED, reason)


async def _operator_keys_changed(services: Services) -> None:
    """Nothing that a key has signed which is gone opens anything more; viewers of such tokens end by themselves."""
    if services.builtin is not None:
        await services.builtin.reload_signing_keys()
        await services.operator_tokens.reload()


async def _operators_changed(services: Services, operator_id: OperatorId | None) -> None:
    services.forget(operator_id)
    async with services.pool.connection() as conn:
        disabled = await operators.disabled(conn)
    for viewer in list(services.hub.viewers):
        if viewer.operator_id in disabled:
            viewer.close(CloseCode.FORBIDDEN, "this operator is disabled")
    if services.builtin is not None:
        for gone in disabled if operator_id is None else disabled & {operator_id}:
            services.builtin.realtime.disconnect_user(str(gone), CloseCode.NORMAL)
