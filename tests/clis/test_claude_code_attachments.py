"""Images and files that Claude Code is given with a prompt."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from support.agents import FINAL, agent_running
from support.api_calls import call_api
from support.attached import store

pytestmark = pytest.mark.clis

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63fccfc0500f000485018"
    "084a98c210000000049454e44ae426082"
)


async def test_an_image_is_shown_and_a_file_is_read_without_a_question(api, admin, claude, tmp_path):
    """The mode `ask` allows the files of the prompt, which are outside of the working folder."""
    project, state = tmp_path / "project", tmp_path / "state"
    project.mkdir()
    state.mkdir()
    (project / "agents").symlink_to(state)  # the agent's folder is not in its working folder
    async with agent_running(api, project, kind="claude") as agent:
        await call_api(admin, "POST", f"/v1/agents/{agent.id}/pause", {})
        image = await store(admin, PIXEL, "pixel.png", "image/png")
        file = await store(admin, b"the word is heron", "notes.txt")
        sent = await admin.send(agent.id, "x", attachments=[image["id"], file["id"]], permission_mode="ask")
        path = state / "one" / "attachments" / sent["id"] / "notes.txt"
        script = f"[call: Read {json.dumps({'file_path': str(path)})}]"
        await call_api(admin, "PATCH", f"/v1/commands/{sent['id']}", {"text": script, "revision": sent["revision"]})
        await call_api(admin, "POST", f"/v1/agents/{agent.id}/resume", {})
        ended = await admin.until_state(sent, *FINAL)
        assert (ended["state"], ended["error"], ended["denied"]) == ("succeeded", None, 0)
        (transcript,) = tmp_path.glob(f"**/projects/*/{ended['turn']['conversation']}.jsonl")
        text = transcript.read_text()
        assert b64encode(PIXEL).decode() in text
        assert "the word is heron" in text
