"""Presence among clients."""

from __future__ import annotations

from typing import Any

from onsembl.realtime.channels.limits import RealtimeLimits

from .conftest import open_wire


async def track(wire: Any, payload: Any, topic: str = "realtime:room") -> dict[str, Any]:
    ref = await wire.send(topic, "presence", {"type": "presence", "event": "track", "payload": payload})
    return await wire.reply(ref)


async def test_who_comes_and_goes_is_told(impatient, wire):
    """The state at first, then what changes: tracking, tracking something else, leaving by a lost socket."""
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


async def test_the_same_payload_again_is_no_news(wire):
    """Tracking what is tracked already is answered, and told to nobody."""
    await wire.join("room", presence={"enabled": True, "key": "ann"})
    await track(wire, {"at": "desk"})
    await wire.expect("presence_diff")
    assert (await track(wire, {"at": "desk"}))["status"] == "ok"
    assert not [frame for frame in await wire.flush() if frame[3] == "presence_diff"]


async def test_untrack_leaves(wire):
    """Whoever tracks no more leaves, and stays on the topic."""
    await wire.join("room", presence={"enabled": True, "key": "ann"})
    await track(wire, {})
    await wire.expect("presence_diff")
    ref = await wire.send("realtime:room", "presence", {"event": "UNTRACK"})
    assert (await wire.reply(ref))["status"] == "ok"
    assert "ann" in (await wire.expect("presence_diff"))["leaves"]


async def test_tracking_enables_presence(wire):
    """A channel that joined without presence is given the state once it tracks."""
    await wire.join("room", presence={"enabled": False})
    await track(wire, {"a": 1})
    assert await wire.expect("presence_state") == {}
    (key,) = (await wire.expect("presence_diff"))["joins"]
    assert len(key) == 36  # a key of the server's own


async def test_a_payload_that_is_no_map_is_refused(wire):
    """With the real service's text."""
    await wire.join("room")
    assert await track(wire, [1]) == {
        "status": "error",
        "response": {"reason": "Presence track payload must be a map"},
    }


async def test_too_many_calls_end_the_channel(impatient, wire):
    """Five calls in thirty seconds; the sixth ends the channel, and no other one."""
    async with open_wire(impatient.url, impatient.key) as other:
        await wire.join("room")
        await other.join("room")
        for n in range(5):
            await track(wire, {"n": n})
        await wire.send("realtime:room", "presence", {"event": "track", "payload": {}})
        assert (await wire.expect("system"))["message"] == "Client presence rate limit exceeded"
        await wire.expect("phx_close")
        assert (await track(other, {}))["status"] == "ok"


async def test_a_private_topics_presence_is_for_those_whom_its_policies_let(impatient):
    """Reading and writing presence are policies of their own."""
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


async def test_a_payload_too_large_ends_the_channel(serve_project):
    """With the real service's text."""
    async with (
        serve_project(limits=RealtimeLimits(payload_bytes=100)) as project,
        open_wire(project.url, project.key) as wire,
    ):
        await wire.join("room")
        await wire.send("realtime:room", "presence", {"event": "track", "payload": {"x": "x" * 200}})
        assert (await wire.expect("system"))["message"] == "Track message size exceeded"
