"""Who may open the agents' WebSocket, before the upgrade."""

from __future__ import annotations

from starlette.websockets import WebSocket

from onsembl.api.auth.agent_keys import AgentIdentity
from onsembl.api.http.client_address import client_address
from onsembl.api.http.problems import Problem, unauthenticated
from onsembl.api.services import Services
from onsembl.protocol.messages import AGENT_SUBPROTOCOL


async def authenticate(websocket: WebSocket, services: Services) -> AgentIdentity:
    """The agent that its access token names. Raises Problem."""
    if "origin" in websocket.headers:
        raise Problem(403, "This socket is for agents, not for pages.")
    if AGENT_SUBPROTOCOL not in websocket.scope["subprotocols"]:
        raise Problem(400, f"This socket speaks the subprotocol {AGENT_SUBPROTOCOL}.")
    scheme, _, token = websocket.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated("An agent presents its access token in the Authorization header.")
    address = client_address(websocket)
    try:
        identity = await services.agent_keys.recognise(token)
    except Problem:
        services.rate_limiter.record_invalid_token(address)
        raise
    services.rate_limiter.count_connection(address, identity.id)
    return identity
