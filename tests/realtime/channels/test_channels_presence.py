"""Presence among clients."""

from __future__ import annotations

from typing import Any

from onsembl.realtime.channels.limits import RealtimeLimits

from .conftest import open_wire


async def track(wire: Any, payload: Any, topic: str = "realtime:room") -> dict[str, Any]:
    ref = await wire.send(topic, "presence", {"type": "presence", "event": "track", "payload": payload})
    return await wire.reply(ref)


async def test_joins_and_leaves_are_pushed(impatient, wire):
    """Clients get the state first, and then each track, change of payload and lost socket."""
    await wire.join("room", presence={"enabled": True, "key": "ann"})
    assert await wire.expect("presence_state") == {}
    assert await track(wire, {"at": "desk"}) == {"status": "ok", "response": {}}
    first = (await wire.expect("presence_diff"))["joins"]["ann"]["metas"][0]
    assert first["at"] == "desk"
    async with open_wire(impatient.url, impatient.key) as other:
        await other.join("room", presence={"enabled": True, "key": "bob"})
        assert (await other.expect("presence_state"))["ann"] == {"metas": [first]}
        await track(other, {"at": "home"})
        assert "bob" in (await wire.expect("presence_diff"))["joins"]
        await track(wire, {"at": "lunch"})
        diff = await other.expect("presence_diff", leaves={"ann": {"metas": [first]}})
        second = diff["joins"]["ann"]["metas"][0]
        assert (second["at"], second["phx_ref_prev"]) == ("lunch", first["phx_ref"])
        assert second["phx_ref"] != first["phx_ref"]
    left = await wire.expect("presence_diff", joins={})
    assert left["leaves"]["bob"]["metas"][0]["at"] == "home"


async def test_an_unchanged_payload_is_not_pushed(wire):
    """A second track of the same payload is answered and pushed to nobody."""
    await wire.join("room", presence={"enabled": True, "key": "ann"})
    await track(wire, {"at": "desk"})
    await wire.expect("presence_diff")
    assert (await track(wire, {"at": "desk"}))["status"] == "ok"
    assert not [frame for frame in await wire.flush() if frame[3] == "presence_diff"]


async def test_untrack_leaves(wire):
    """A client that untracks leaves the presence and stays on the topic."""
    await wire.join("room", presence={"enabled": True, "key": "ann"})
    await track(wire, {})
    await wire.expect("presence_diff")
    ref = await wire.send("realtime:room", "presence", {"event": "UNTRACK"})
    assert (await wire.reply(ref))["status"] == "ok"
    assert "ann" in (await wire.expect("presence_diff"))["leaves"]


async def test_tracking_enables_presence(wire):
    """A channel that joined without presence gets the state once it tracks."""
    await wire.join("room", presence={"enabled": False})
    await track(wire, {"a": 1})
    assert await wire.expect("presence_state") == {}
    (key,) = (await wire.expect("presence_diff"))["joins"]
    assert len(key) == 36  # a key of the server's own


async def test_a_payload_that_is_no_map_is_rejected(wire):
    """A payload that is no map is rejected with Supabase Realtime's text."""
    await wire.join("room")
    assert await track(wire, [1]) == {
        "status": "error",
        "response": {"reason": "Presence track payload must be a map"},
    }


async def test_too_many_calls_close_the_channel(impatient, wire):
    """The sixth call in thirty seconds closes its channel and no other."""
    async with open_wire(impatient.url, impatient.key) as other:
        await wire.join("room")
        await other.join("room")
        for n in range(5):
            await track(wire, {"n": n})
        await wire.send("realtime:room", "presence", {"event": "track", "payload": {}})
        assert (await wire.expect("system"))["message"] == "Client presence rate limit exceeded"
        await wire.expect("phx_close")
        assert (await track(other, {}))["status"] == "ok"


async def test_policies_control_the_presence_of_a_private_topic(impatient):
    """Policies of their own control reading and writing presence on a private topic."""
    await impatient.execute(
        """create policy hear on realtime.messages for select to authenticated using (extension = 'broadcast');
        create policy see on realtime.messages for select to anon using (true);
        create policy be on realtime.messages for insert to anon with check (extension = 'presence')"""
    )
    await impatient.operator("ann")
    token = (await impatient.sign_in("ann"))["access_token"]
    async with open_wire(impatient.url, impatient.key) as ann, open_wire(impatient.url, impatient.key) as anon:
        await ann.join("room", token, private=True, presence={"enabled": True})
        await anon.join("room", private=True, presence={"enabled": True})
        assert await track(ann, {}) == {"status": "error", "response": {}}
        assert (await track(anon, {}))["status"] == "ok"
        await anon.expect("presence_diff")
        assert not [frame for frame in await ann.flush() if frame[3].startswith("presence")]


async def test_a_payload_too_large_closes_the_channel(serve_project):
    """A payload above the limit closes the channel with Supabase Realtime's text."""
    async with (
        serve_project(limits=RealtimeLimits(payload_bytes=100)) as project,
        open_wire(project.url, project.key) as wire,
    ):
        await wire.join("room")
        await wire.send("realtime:room", "presence", {"event": "track", "payload": {"x": "x" * 200}})
        assert (await wire.expect("system"))["message"] == "Track message size exceeded"
