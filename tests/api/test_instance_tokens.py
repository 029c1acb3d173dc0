"""How instances authenticate to each other, and who else is refused."""

from __future__ import annotations

import json
import time
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from support.frames import HELLO_TEXT, close_code, next_message
from support.server import PATIENCE, Api
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from onsembl.api.auth.agent_keys import ISSUER
from onsembl.api.auth.instance_tokens import AUDIENCE, TOKEN_SECONDS
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.relay_messages import RELAY_PATH, RELAY_SUBPROTOCOL

pytestmark = pytest.mark.no_worker


def relay(api: Api, token: str | None, *, subprotocol: str = RELAY_SUBPROTOCOL, **headers: str) -> connect:
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return connect(
        api.url.replace("http", "ws") + RELAY_PATH,
        subprotocols=[subprotocol],  # type: ignore[list-item]
        additional_headers=headers,
        compression=None,
        open_timeout=PATIENCE,
    )


async def refused(api: Api, token: str | None, **kwargs: str) -> int:
    """The status with which the handshake is refused; 101 when it is not."""
    try:
        async with relay(api, token, **kwargs):
            return 101
    except InvalidStatus as answer:
        return answer.response.status_code


async def test_only_an_instance_that_was_meant_gets_in_and_once(api):
    """Pages, agents, operators, other keys, other instances, tokens that are old, long or used: none is let in."""
    tokens, keys = api.services.instance_tokens, api.services.agent_keys
    here = api.services.presence.instance_id
    kid, key = keys._signing
    now = time.time()

    def signed(by=key, **changes) -> str:
        at = time.time()
        claims = {"iss": ISSUER, "aud": f"{AUDIENCE}:{here}", "sub": str(uuid4()), "iat": at, "exp": at + TOKEN_SECONDS}
        claims = claims | {"jti": str(uuid4())} | changes
        return jwt.encode({name: value for name, value in claims.items() if value}, by, "ES256", headers={"kid": kid})

    agent, operator = await api.enrol(), await api.operator()
    used = tokens.sign(here)
    assert await refused(api, used) == 101
    for token in (
        *(used, None, "", "x", agent.access_token, operator.access_token),
        tokens.sign(uuid4()),
        signed(ec.generate_private_key(ec.SECP256R1())),  # another project's
        signed(aud=AUDIENCE),
        signed(exp=now - 1),
        signed(exp=now + 10 * TOKEN_SECONDS),
        signed(sub="me"),
    ):
        assert await refused(api, token) == 401, token
    assert await refused(api, signed()) == 101
    assert await refused(api, signed(), subprotocol="onsembl.agent.v1") == 400
    for page in ("https://elsewhere.example", api.url):
        assert await refused(api, tokens.sign(here), Origin=page) == 403
    # An instance's token opens nothing else.
    answer = await api.http.get("/v1/agents", headers={"Authorization": f"Bearer {tokens.sign(here)}"})
    assert answer.status_code == 401


async def test_a_token_without_a_number_is_used_up_as_well(api):
    """A token without `jti` would be accepted again and again."""
    here = api.services.presence.instance_id
    kid, key = api.services.agent_keys._signing
    now = time.time()
    claims = {"iss": ISSUER, "aud": f"{AUDIENCE}:{here}", "sub": str(uuid4()), "iat": now, "exp": now + 5}
    token = jwt.encode(claims, key, "ES256", headers={"kid": kid})
    assert [await refused(api, token) for _ in range(2)] == [101, 401]


async def test_an_owner_whose_connection_is_older_does_not_relay(api):
    """It has not heard yet that its agent has connected elsewhere: the epoch tells."""
    tokens, here = api.services.instance_tokens, api.services.presence.instance_id
    agent = await api.enrol()
    async with api.agent_socket(agent) as socket, relay(api, tokens.sign(here)) as relayed:
        await socket.send(HELLO_TEXT)
        epoch = (await next_message(socket, "welcome"))["epoch"]
        for channel, known, answer in ((1, epoch + 1, "watch_ended"), (2, epoch, "watched"), (3, 0, "watched")):
            watch = {"type": "watch", "channel": channel, "agent_id": agent.id, "epoch": known}
            await relayed.send(json.dumps(watch))
            assert (await next_message(relayed, answer))["channel"] == channel


async def test_nonsense_ends_the_connection(api):
    """Frames that the relay does not know close it with the code of a bad message."""
    tokens, here = api.services.instance_tokens, api.services.presence.instance_id
    for frame in (b"\0", "x", '{"type": "watch"}', '{"type": "hello"}', '{"type": "credit", "channel": 0, "count": 1}'):
        async with relay(api, tokens.sign(here)) as socket:
            await socket.send(frame)
            assert await close_code(socket) == CloseCode.BAD_MESSAGE
