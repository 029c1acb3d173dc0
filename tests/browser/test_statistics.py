"""The statistics page: it updates while it is visible."""

from __future__ import annotations

import re

from playwright.async_api import Locator
from support.agents import Operator, agent_running
from support.expecting import expect
from support.server import Api

from onsembl.protocol.states import Role

PHONE = {"width": 390, "height": 844}
ROUTE = "/v1/statistics"
TURN = """state => {
    Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def statistic(visitor, name: str) -> Locator:
    return visitor.page.locator(f'[data-statistic="{name}"]')


async def test_statistics_change_while_the_page_is_visible(center: Api, visit, tmp_path) -> None:
    """An agent's output and its commands are counted within seconds; a viewer may read them."""
    operator = Operator(center, await center.operator())
    visitor = await visit(center.url)
    await visitor.come_back((await center.operator(Role.VIEWER)).email, path="/#/statistics")
    await expect(statistic(visitor, "agents")).to_have_attribute("data-value", "0")
    await expect(visitor.page.get_by_text("The queue is empty.")).to_be_visible()
    async with agent_running(center, tmp_path) as agent:
        await expect(statistic(visitor, "agents")).to_have_attribute("data-value", "1")
        await operator.send(agent.id, "while sleep 0.05; do seq 100; done")
        await operator.send(agent.id, "true", priority=3)
        written = statistic(visitor, "terminal-bytes")
        await expect(written.locator(".value")).to_have_text(re.compile(r"^\s*[\d.]+ [KM]iB/s\s*$"))
        await expect(statistic(visitor, "running")).to_have_attribute("data-value", "1")
        await expect(visitor.page.locator('[data-priority="3"]')).to_contain_text("1")
        plot = written.get_by_role("img")
        await expect(plot).to_have_attribute("aria-label", re.compile(r"now [\d.]+ [KM]iB/s, peak "))
        await plot.hover(position={"x": 0, "y": 10})
        await expect(written.locator(".foot")).to_have_text(re.compile(" ago$"))


async def test_the_page_sends_no_requests_while_it_is_hidden(center: Api, visit) -> None:
    """The page sends no requests in a background tab or while another page is open, and keeps its earlier readings."""
    visitor = await visit(center.url)
    page = visitor.page
    await page.clock.install()
    await visitor.come_back((await center.operator()).email, path="/#/statistics")
    await expect(statistic(visitor, "agents")).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith(ROUTE) else None)
    async with page.expect_response(f"**{ROUTE}"):
        await page.clock.run_for(2_500)
    await page.evaluate(TURN, "hidden")
    asked.clear()
    await page.clock.run_for(20_000)
    assert asked == []
    async with page.expect_response(f"**{ROUTE}"):
        await page.evaluate(TURN, "visible")
    await page.goto(center.url + "/#/history")
    await expect(page.locator('[data-page="history"]')).to_be_visible()
    asked.clear()
    await page.clock.run_for(20_000)
    assert asked == []
    await page.route(f"**{ROUTE}", lambda route: route.abort())
    visitor.console.expect("ERR_FAILED")
    await page.go_back()
    await expect(page.get_by_role("alert")).to_contain_text("The page shows older values.")
    await expect(statistic(visitor, "agents")).to_have_attribute("data-value", "0")


async def test_an_error_is_shown_until_the_next_reading(center: Api, visit) -> None:
    """An error is shown until the next reading, and the last values stay on the page."""
    visitor = await visit(center.url)
    visitor.console.expect("503")
    await visitor.page.clock.install()
    await visitor.come_back((await center.operator()).email, path="/#/statistics")
    await expect(statistic(visitor, "agents")).to_be_visible()
    await visitor.page.route(f"**{ROUTE}", lambda route: route.fulfill(status=503, body="away"))
    await visitor.page.clock.run_for(2_500)
    await expect(visitor.page.get_by_role("alert")).to_contain_text("The server answered 503")
    await expect(statistic(visitor, "agents")).to_be_visible()
    await visitor.page.unroute(f"**{ROUTE}")
    await visitor.page.clock.run_for(2_500)
    await expect(visitor.page.get_by_role("alert")).to_have_count(0)


async def test_it_fits_a_phone(center: Api, visit) -> None:
    """No element of the page is wider than a phone's screen."""
    visitor = await visit(center.url, PHONE)
    await visitor.come_back((await center.operator()).email, path="/#/statistics")
    await expect(statistic(visitor, "memory")).to_be_visible()
    wide = await visitor.page.evaluate(
        "() => document.querySelector('main').scrollWidth - document.documentElement.clientWidth"
    )
    assert wide <= 0
