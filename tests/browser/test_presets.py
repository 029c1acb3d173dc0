"""Presets on the page: filled in from the command box, copied, changed, deleted."""

from __future__ import annotations

import re

from support.expecting import expect
from support.server import Api

from onsembl.protocol.states import Role


async def test_a_preset_is_filled_in_and_sent(center: Api, visit) -> None:
    """A preview shows the command text and invalid values; the text can be changed in the box before it is sent."""
    await center.enrol("one", "claude")
    visitor = await visit(center.url)
    await visitor.come_back((await center.operator(Role.OPERATOR)).email)
    page = visitor.page
    await page.get_by_role("button", name="Presets").click()
    dialog = page.get_by_role("dialog", name="Preset for one")
    await dialog.get_by_label("Preset").select_option("Review")
    preview = dialog.get_by_role("region", name="Preview")
    await expect(preview).to_contain_text("Review the changes of `HEAD` against `main`.")
    await dialog.get_by_label("change", exact=False).first.fill("fix/login")
    await dialog.get_by_label("most").fill("many")
    await expect(dialog.get_by_text("most has to be a whole number.")).to_be_visible()
    await expect(dialog.get_by_role("button", name="Send", exact=True)).to_be_disabled()
    await dialog.get_by_label("most").fill("3")
    await expect(preview).to_contain_text("at most 3 findings")
    await dialog.get_by_role("button", name="Send", exact=True).click()
    await expect(dialog).to_have_count(0)
    row = page.locator("li[data-command]").filter(has_text="Review the changes of `fix/login`")
    await row.locator("[data-row]").click()
    await expect(row.get_by_text("Preset", exact=True)).to_be_visible()
    await page.get_by_role("button", name="Presets").click()
    await dialog.get_by_label("what").fill("Why is it slow?")
    await dialog.get_by_role("button", name="Edit before sending").click()
    await expect(page.get_by_role("textbox", name="Command for")).to_have_value(re.compile("Why is it slow"))


async def test_a_preset_is_copied_changed_and_deleted(center: Api, visit) -> None:
    """An operator copies shipped presets, changes and deletes copies; a viewer changes none."""
    await center.enrol("one")
    visitor, viewer = await visit(center.url), await visit(center.url)
    await visitor.come_back((await center.operator(Role.OPERATOR)).email, path="/#/presets")
    page = visitor.page
    await expect(page.get_by_role("button", name="Edit Review")).to_have_count(0)
    await page.get_by_role("button", name="Copy Plan").click()
    await page.get_by_label("Name").first.fill("update")
    await page.get_by_role("textbox", name="Template").focus()
    await page.keyboard.press("ControlOrMeta+a")
    await page.keyboard.insert_text("Update {{package}}{{#version}} to {{version}}{{/version}}.")
    for _ in range(6):
        await page.get_by_role("button", name="Remove").first.click()
    await expect(page.get_by_text("The template names unknown variables: package, version.")).to_be_visible()
    await page.get_by_role("button", name="Add package").click()
    await page.get_by_role("button", name="Add version").click()
    await page.get_by_role("group", name="Variable package").get_by_label("required").check()
    await expect(page.get_by_text("Missing or invalid: package.")).to_be_visible()
    await page.get_by_label("package (required)").fill("httpx")
    await expect(page.get_by_role("region", name="Preview")).to_contain_text("Update httpx.")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator('[data-preset="update"]')).to_contain_text("by operator@example.org")
    await page.get_by_role("button", name="Edit update").click()
    await page.get_by_label("Name").first.fill("upgrade")
    await page.get_by_label("Deny, whatever is allowed").fill("Bash(git push*)")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator('[data-preset="upgrade"]')).to_be_visible()
    await expect(page.locator('[data-preset="update"]')).to_have_count(0)
    await page.get_by_role("button", name="Copy upgrade").click()
    await expect(page.get_by_label("Deny, whatever is allowed")).to_have_value("Bash(git push*)")
    visitor.console.expect("409")
    await page.get_by_label("Name").first.fill("review")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("form [role=alert]")).to_contain_text("A built-in preset cannot be")
    await page.get_by_role("button", name="Cancel").click()
    await viewer.come_back((await center.operator(Role.VIEWER)).email, path="/#/presets")
    await expect(viewer.page.locator('[data-preset="upgrade"]')).to_be_visible()
    await expect(viewer.page.get_by_role("button", name="Copy upgrade")).to_have_count(0)
    await page.get_by_role("button", name="Delete upgrade").click()
    await page.get_by_role("button", name="Press again to delete upgrade").click()
    await expect(page.locator('[data-preset="upgrade"]')).to_have_count(0)
