"""The turn of a coding agent on the page: its steps, while they come and afterwards."""

from __future__ import annotations

import re

from support.agents import FINAL, Operator, agent_running, until
from support.api_calls import call_api
from support.claude import put_claude_on_path
from support.expecting import expect
from support.server import Api

from onsembl.protocol.states import Role
from onsembl.sql.database import connect


async def test_the_steps_of_a_turn_are_shown(center: Api, visit, tmp_path, monkeypatch) -> None:
    """Each step opens to its text and result, and leads to its place in the recording; what was not allowed is
    marked, and so are tokens that are the least."""
    put_claude_on_path(tmp_path, monkeypatch)
    operator = Operator(center, await center.operator())
    async with agent_running(center, tmp_path, kind="claude") as agent:
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back((await center.operator(Role.OPERATOR)).email)
        await page.get_by_role("button", name="Turn", exact=True).click()
        pane = page.get_by_role("region", name="Turn")
        await expect(pane.get_by_text("No prompt has been sent")).to_be_visible()
        await visitor.send("tool")
        tool = pane.locator("li.tool")
        await expect(tool).to_contain_text("Bash")
        await expect(pane.locator("li.result")).to_contain_text("232 tokens")
        await expect(pane.locator("li.message .markdown")).to_contain_text("The command printed: one")
        await tool.get_by_role("button").click()
        await expect(tool.locator("pre.result")).to_contain_text("one\ntwo")
        await expect(tool.get_by_role("link")).to_have_attribute("href", re.compile(r"#/recordings/one/.*at=\d+"))

        await tool.get_by_role("link").click()
        played = page.get_by_role("list", name="Commands in this recording").locator("[aria-current]")
        await expect(played).to_contain_text("1. Bash")
        await page.go_back()
        await page.get_by_role("button", name="Turn", exact=True).click()

        refused = await operator.until_state(await operator.send(agent.id, "refused", conversation="latest"), *FINAL)
        assert refused["denied"] == 1
        await expect(pane.locator("li.denied")).to_contain_text("not allowed")
        row = visitor.command("refused", "succeeded")
        await expect(row.locator(".chip")).to_have_class(re.compile("incomplete"))
        await expect(row).to_contain_text("1 not allowed")
        await pane.get_by_label("Turn").select_option(label="tool")
        await expect(pane.locator("li.result")).to_contain_text("232 tokens")
        async with await connect(center.database_url) as conn:  # as of a CLI that tells only a part of them
            await conn.execute("""update commands set usage = usage || '{"partial": true}' where text = 'tool'""")
        await expect(pane.locator("li.result")).to_contain_text("≥232 tokens")
        await page.get_by_role("button", name="Terminal", exact=True).click()
        await visitor.sees("The command printed: one")
        await page.evaluate("location.hash = '#/recordings/one'")
        await expect(page.get_by_role("row", name="refused").locator(".chip")).to_have_class(re.compile("incomplete"))


async def test_a_text_goes_into_the_running_turn(center: Api, visit, tmp_path, monkeypatch) -> None:
    """Ctrl-Enter sends a text into the turn; its row says that the turn has read it, and the turn has it as a step."""
    put_claude_on_path(tmp_path, monkeypatch)
    operator = Operator(center, await center.operator())
    async with agent_running(center, tmp_path, kind="claude") as agent:
        turn = await operator.until_state(await operator.send(agent.id, "tool TAKES"), "running")
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back((await center.operator(Role.OPERATOR)).email)
        await expect(page.locator("li[data-command][data-state=running]")).to_be_visible()
        box = page.locator("form.box textarea")
        await box.fill("leave the tests alone")
        await expect(page.get_by_text("A turn runs.")).to_be_visible()
        await box.press("Control+Enter")
        await expect(visitor.command("leave the tests alone", "succeeded")).to_contain_text("read by the turn, step 2")
        await page.get_by_role("button", name="Turn", exact=True).click()
        step = page.get_by_role("region", name="Turn").locator("li.input")
        await expect(step).to_contain_text("Sent into the turn")
        await expect(step).to_contain_text("leave the tests alone")
        assert (await operator.until_state(turn, *FINAL))["state"] == "succeeded"


async def test_the_right_column_is_the_conversation(center: Api, visit, tmp_path, monkeypatch) -> None:
    """It has the totals and the model; the next prompt continues the conversation, a new one, or a copy from a turn;
    and a forgotten one begins anew."""
    put_claude_on_path(tmp_path, monkeypatch)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/a-branch\n")
    operator = Operator(center, await center.operator())
    async with agent_running(center, tmp_path, kind="claude") as agent:
        first = await operator.until_state(await operator.send(agent.id, "words"), *FINAL)
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back((await center.operator(Role.OPERATOR)).email)
        card = page.get_by_role("region", name="Conversation")
        await expect(card).to_contain_text("1 turn ·")
        await expect(card).to_contain_text("claude-opus-4-8[1m] · a-branch")
        await expect(card.get_by_label("Context used")).to_be_visible()
        sent = {first["id"]}

        async def send(text: str) -> dict:
            await visitor.send(text)

            async def newest():
                listed = (await call_api(operator, "GET", f"/v1/commands?agent_id={agent.id}&limit=1"))["commands"]
                return None if listed[0]["id"] in sent else listed[0]

            row = await until(newest, "the page has sent the prompt")
            sent.add(row["id"])
            return await operator.until_state(row, *FINAL)

        await card.get_by_role("button", name="New").click()
        assert (await send("tool"))["conversation_id"] != first["conversation_id"]
        await expect(card.get_by_label("Conversation")).to_contain_text("tool")
        await card.get_by_label("Conversation").select_option(label="words")
        await card.get_by_role("button", name="Continue").click()
        assert (await send("tool"))["conversation_id"] == first["conversation_id"]
        await expect(card).to_contain_text("2 turns ·")

        await page.get_by_role("button", name="Turn", exact=True).click()
        pane = page.get_by_role("region", name="Turn")
        await pane.get_by_label("Turn").select_option(label="words")
        await pane.get_by_role("button", name="Fork here").click()
        await expect(page.get_by_label("Conversation", exact=True).last).to_be_visible()
        forked = await send("words")
        assert forked["turn"]["fork_at"]

        await card.get_by_label("Conversation").select_option(value=first["conversation_id"])
        await card.get_by_role("button", name="Continue").click()
        await send("forgotten")
        await expect(card).to_contain_text("The CLI has forgotten this conversation.")
        await card.get_by_role("button", name="Begin anew with its last answer").click()
        await expect(card.get_by_role("button", name="Continue")).to_be_visible()
        assert "preface" in (await send("words"))["turn"]
