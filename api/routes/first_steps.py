"""What has been done for the first time: the page ticks its first steps by it."""

from __future__ import annotations

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Answer, NoBody
from onsembl.protocol.states import Role
from onsembl.sql import first_steps


class FirstSteps(Answer, frozen=True, kw_only=True):
    """Whether each of the first steps was done, by whomever; a deleted or expired row shows nothing any more."""

    demo_seen: bool
    agent_connected: bool
    command_sent: bool
    request_answered: bool


async def read_first_steps(call: Call[NoBody]) -> FirstSteps:
    async with call.services.pool.connection() as conn:
        done = await first_steps.done(conn)
    return FirstSteps(
        demo_seen=done.demo_seen,
        agent_connected=done.agent_connected,
        command_sent=done.command_sent,
        request_answered=done.request_answered,
    )


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/first-steps",
        handler=read_first_steps,
        summary="Read which of the first steps were done",
        answer=FirstSteps,
        role=Role.OPERATOR,
    ),
]
