"""The process that holds an agent's connection is killed while other instances relay the agent's terminal from it."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import pytest
from chaos.parts import PUBLIC_URL, reachable_part
from support.frames import HELLO, HELLO_TEXT, attach, close_code, next_message, read_bytes
from support.server import running

from onsembl.api.settings import Settings
from onsembl.protocol.close_codes import CloseCode
from onsembl.protocol.messages import encode_output

INSTANCES = 10


@pytest.mark.soak
async def test_ten_instances_follow_an_agent_whose_owner_is_killed(database_url, tmp_path):
    """Each of the ten has a viewer. The agent comes to one of them: its viewer comes back there, the other nine stay
    connected, and each has every byte once."""
    settings = Settings(database_url=database_url, public_url=PUBLIC_URL, worker=None)
    async with AsyncExitStack() as stack:
        instances = [await stack.enter_async_context(running(settings, reachable=True)) for _ in range(INSTANCES)]
        new_owner, *others = instances
        part, owner = await reachable_part(stack, database_url, tmp_path)
        token, agent = (await new_owner.operator()).access_token, await new_owner.enrol("watched")

        old = await stack.enter_async_context(owner.agent_socket(agent))
        await old.send(HELLO_TEXT)
        stream = (await next_message(old, "welcome"))["stream_id"]
        await old.send(encode_output(0, b"first "))
        viewers = {}
        for instance in instances:
            viewer = viewers[instance] = await stack.enter_async_context(instance.terminal_socket(agent.id))
            await attach(viewer, token)
            assert await read_bytes(viewer, 6) == b"first "
        await part.kill()
        await old.wait_closed()

        new = await stack.enter_async_context(new_owner.agent_socket(agent))
        await new.send(json.dumps({**HELLO, "stream": {"id": stream, "start": 0, "end": 13}}))
        at = (await next_message(new, "welcome"))["resume_offset"]
        await new.send(encode_output(at, b"first second "[at:]))
        for instance in others:
            assert await read_bytes(viewers[instance], 7) == b"second "
        assert await close_code(viewers[new_owner]) == CloseCode.ELSEWHERE
        again = await stack.enter_async_context(new_owner.terminal_socket(agent.id))
        assert (await attach(again, token, stream_id=stream, offset=6))["mode"] == "exact"
        assert await read_bytes(again, 7) == b"second "
        assert len(new_owner.services.relays.served) == len(others)
