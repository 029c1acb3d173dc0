"""The real Claude Code on the scripted model is answered from the page."""

from __future__ import annotations

import pytest
from clis.conftest import pinned
from clis.programs import CLAUDE
from support.agents import FINAL, Operator, agent_running
from support.expecting import expect
from support.scripted_model import model_running
from support.server import Api

from onsembl.protocol.states import Role

__all__ = ["pinned"]  # pytest finds it here
pytestmark = [pytest.mark.clis, pytest.mark.timeout(600)]


async def test_commands_and_a_change_are_answered(center: Api, visit, pinned, tmp_path, monkeypatch) -> None:
    """By click and by key; allowed, they are made, denied, they are not."""
    account = await center.operator(Role.OPERATOR)
    operator = Operator(center, account)
    visitor = await visit(center.url)
    page, card = visitor.page, visitor.page.locator("[data-ready]")
    async with model_running() as model:
        CLAUDE.use(pinned, model, tmp_path, monkeypatch)
        async with agent_running(center, tmp_path, kind="claude") as agent:
            await visitor.come_back(account.email, "/#/inbox")
            change = f'[call: Write {{"file_path": "{tmp_path}/new", "content": "x"}}]'
            script = f"[run: touch clicked] [run: touch denied] {change} [say: Done.]"
            command = await operator.send(agent.id, script, permission_mode="ask")
            await expect(card).to_contain_text("touch clicked")
            await card.get_by_role("button", name="Allow").first.click()
            await expect(card).to_contain_text("touch denied")
            await page.keyboard.press("n")
            await expect(card).to_contain_text("+x")
            await page.keyboard.press("y")
            ended = await operator.until_state(command, *FINAL, seconds=150)
    assert (ended["state"], ended["error"], ended["denied"]) == ("succeeded", None, 1)
    made = {name for name in ("clicked", "denied", "new") if (tmp_path / name).exists()}
    assert made == {"clicked", "new"}
