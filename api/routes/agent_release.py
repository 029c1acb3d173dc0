"""The release of this server for its agents: its description, and its wheel."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from onsembl.api.http.endpoint import Call, Endpoint
from onsembl.api.http.models import Answer, NoBody
from onsembl.api.http.problems import Problem, unauthenticated
from onsembl.api.release_wheel import NoWheel, Wheel
from onsembl.protocol.attachments import PLAIN_FILE
from onsembl.protocol.release import NO_WHEEL_PROBLEM, Release
from onsembl.sql import agents

AGENTS_TOKEN = "an agent's access token"  # noqa: S105 — the name of a credential


async def read_release(call: Call[NoBody]) -> Release:
    return (await _wheel(call)).release


async def read_wheel(call: Call[NoBody]) -> Response:
    """The wheel that the description names."""
    return Response((await _wheel(call)).content, media_type=PLAIN_FILE)


async def _wheel(call: Call[Any]) -> Wheel:
    """The wheel, for an agent that is enrolled. Raises Problem 401 or 404."""
    agent = await call.services.agent_keys.recognise(call.token)
    async with call.services.pool.connection() as conn:
        if await agents.get(conn, agent.id) is None or await agents.revoked_since(conn, {agent.id: agent.issued_at}):
            raise unauthenticated("The agent's credentials are revoked.")
    try:
        return await call.services.release_wheel.get()
    except NoWheel as error:
        raise Problem(404, str(error), type=NO_WHEEL_PROBLEM) from error


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/agent/release",
        handler=read_release,
        summary="Read the server's release, to which the agent can update",
        answer=Release,
        role=None,
        presents=AGENTS_TOKEN,
        problems=(404,),
    ),
    Endpoint(
        method="GET",
        path="/v1/agent/release/wheel",
        handler=read_wheel,
        summary="Fetch the wheel of the server's release",
        answer=Answer,
        media_type=PLAIN_FILE,
        role=None,
        presents=AGENTS_TOKEN,
        problems=(404,),
    ),
]
