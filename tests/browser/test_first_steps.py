"""The first steps on the page of a fresh control center."""

from __future__ import annotations

import pytest
from playwright.async_api import Page
from support.agents import Operator
from support.asking_agents import running
from support.expecting import expect
from support.pictures import DESK, pictures
from support.server import Api

from onsembl.api.settings import Settings
from onsembl.protocol.states import Role

CARD = '[aria-label="First steps"]'


@pytest.fixture
def settings(database_url: str) -> Settings:
    """The agents are bare sockets, which take no offer of a worker and answer no ping."""
    return Settings(database_url=database_url, public_url="", worker=None, heartbeat=3600)


async def shows(page: Page, **steps: bool) -> None:
    """Wait until the card has exactly these steps, each of them done or not."""
    wanted = [[name, str(done).lower()] for name, done in steps.items()]
    rows = f"[...document.querySelectorAll('{CARD} [data-step]')].map((row) => [row.dataset.step, row.dataset.done])"
    await page.wait_for_function(
        f"(wanted) => JSON.stringify({rows}) === JSON.stringify(wanted)", arg=wanted, timeout=60_000
    )


async def test_each_step_is_ticked_by_doing_it(center: Api, visit) -> None:
    """An admin of an empty fleet is led to the demo, the first agent, command and answer; the card goes when all is
    done. An operator is shown what he can do, and may dismiss it."""
    admin = Operator(center, await center.operator())
    await center.operator(Role.OPERATOR)
    desk, other = await visit(center.url), await visit(center.url)
    page = desk.page
    await desk.come_back("admin@example.org")
    await expect(page.get_by_role("heading", name="No agents yet")).to_be_visible()
    await expect(page.get_by_role("complementary", name="Demo")).to_have_count(0)
    await shows(page, demo=False, connect=False, send=False, answer=False)
    await pictures(page, "first-steps-empty")
    await page.set_viewport_size(DESK)
    await other.come_back("operator@example.org")
    await shows(other.page, send=False, answer=False)

    agent = await center.enrol("own", "claude")
    await shows(page, demo=False, connect=False, send=False, answer=False)
    async with running(center, admin, agent=agent) as asking:
        await shows(page, connect=True, send=True, answer=False)
        await shows(other.page, send=True, answer=False)
        await pictures(page, "first-steps")
        await page.set_viewport_size(DESK)
        await other.page.get_by_role("button", name="Dismiss the first steps").click()
        await expect(other.page.locator(CARD)).to_have_count(0)
        await other.page.reload()
        await other.live()
        await asking.ask()
        card = page.locator("[data-request]")
        await card.get_by_role("button", name="Allow").first.click()
        await expect(page.locator(CARD)).to_have_count(0)
        await desk.noticed("The first steps are done.")
    await expect(other.page.locator('[data-agent="own"]')).to_be_visible()
    await expect(other.page.locator(CARD)).to_have_count(0)
