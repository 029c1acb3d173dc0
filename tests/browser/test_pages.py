"""The pages beside the fleet's: how they are reached, and by whom."""

from __future__ import annotations

from playwright.async_api import expect
from support.frames import SAID_HELLO
from support.server import Api

from onsembl.protocol.states import Role


async def test_pages_are_reached_from_anywhere(center: Api, visit) -> None:
    """The navigation, the palette and the address lead to a page, and the back button to the fleet again."""
    await center.enrol("one")
    visitor = await visit(center.url)
    await visitor.sign_in((await center.operator()).email)
    page = visitor.page
    await page.get_by_role("navigation", name="Pages").get_by_role("link", name="Access").click()
    await expect(page.locator('[data-page="access"]')).to_be_visible()
    await expect(page.locator('[data-page="access"]').get_by_role("cell", name="one", exact=True)).to_be_visible()
    await page.go_back()
    await expect(page.locator('[data-agent="one"]')).to_be_visible()
    await page.keyboard.press("Control+k")
    await page.get_by_role("combobox", name="Agent or action").fill("access")
    await page.keyboard.press("Enter")
    await expect(page.locator('[data-page="access"]')).to_be_visible()
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.get_by_role("button", name="Pages: Access").click()
    await page.get_by_role("navigation", name="All pages").get_by_role("link", name="Fleet").click()
    await expect(page.locator('[data-agent="one"]')).to_be_visible()


async def test_a_page_that_is_not_ones_own_says_so(center: Api, visit) -> None:
    """A viewer who comes to an admin's page by its address is told; one that does not exist is said not to."""
    visitor = await visit(center.url)
    await visitor.sign_in((await center.operator(Role.VIEWER)).email, path="/#/access")
    await expect(visitor.page.get_by_text("This page takes the role admin; yours is viewer.")).to_be_visible()
    await visitor.page.goto(center.url + "/#/nowhere")
    await expect(visitor.page.get_by_text("There is no such page.")).to_be_visible()


async def test_an_admin_shuts_an_operator_out_and_lets_them_in(center: Api, visit) -> None:
    """Two presses; the other's open page says at once that it has no access, and works again afterwards."""
    agent = await center.enrol("one")
    admin, other = await visit(center.url), await visit(center.url)
    other.console.expect("403")
    await admin.sign_in((await center.operator()).email, path="/#/access")
    operator = await center.operator(Role.OPERATOR)
    await other.sign_in(operator.email)
    async with center.agent_socket(agent) as socket:
        await socket.send(SAID_HELLO)
        await socket.recv()
        await other.attached()
        await admin.page.reload()
        await admin.page.get_by_role("button", name=f"Disable {operator.email}").click()
        await admin.page.get_by_role("button", name=f"Press again to disable {operator.email}").click()
        await expect(admin.page.get_by_role("button", name=f"Enable {operator.email}")).to_be_visible()
        await other.page.reload()
        await expect(other.page.get_by_text("This operator is disabled.")).to_be_visible()
        await admin.page.get_by_role("button", name=f"Enable {operator.email}").click()
        await expect(admin.page.get_by_role("button", name=f"Disable {operator.email}")).to_be_visible()
    await admin.page.get_by_role("button", name="Disable one").click()
    await admin.page.get_by_role("button", name="Press again to disable one").click()
    await expect(admin.page.get_by_role("button", name="Enable one")).to_be_visible()
