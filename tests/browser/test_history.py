"""The history page."""

from __future__ import annotations

from support.expecting import expect
from support.server import Api

from onsembl.protocol.states import Role


async def test_the_history_is_searched_and_shared_by_address(center: Api, visit) -> None:
    """A note and a tag find a command again, in another window, by the address."""
    await center.enrol("away")
    visitor, other = await visit(center.url), await visit(center.url)
    operator = await center.operator(Role.OPERATOR)
    await visitor.come_back(operator.email)
    for text in ("make all", "make clean"):
        await visitor.send(text)
    page = visitor.page
    await page.get_by_role("navigation", name="Pages", exact=True).get_by_role("link", name="Runs").click()
    rows = page.get_by_role("list", name="Commands").get_by_role("listitem")
    await expect(rows).to_contain_text(["make clean", "make all"])
    await rows.last.locator("[data-row]").click()
    await page.get_by_role("button", name="Note and tags").click()
    await page.get_by_label("Note", exact=True).fill("breaks on arm64")
    await page.get_by_label("Tags", exact=True).fill("ci arm64")
    await page.get_by_role("button", name="Save").click()
    await expect(rows.last.get_by_text("arm64", exact=True)).to_be_visible()
    await page.get_by_label("Text").fill("breaks")
    await page.get_by_label("Tag", exact=True).fill("ci")
    await page.get_by_label("State").select_option("queued")
    await page.get_by_role("button", name="Apply", exact=True).click()
    await expect(rows).to_have_count(1)
    await other.come_back(operator.email, path=page.url.removeprefix(center.url))
    found = other.page.get_by_role("list", name="Commands").get_by_role("listitem")
    await expect(found).to_contain_text(["make all"])
    await expect(other.page.get_by_label("Text")).to_have_value("breaks")
    await visitor.cancel(rows)
    await expect(found).to_have_count(0)
