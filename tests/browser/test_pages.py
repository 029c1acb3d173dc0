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
    await visitor.come_back((await center.operator()).email)
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
    await visitor.come_back((await center.operator(Role.VIEWER)).email, path="/#/access")
    await expect(visitor.page.get_by_text("This page takes the role admin; yours is viewer.")).to_be_visible()
    await visitor.page.goto(center.url + "/#/nowhere")
    await expect(visitor.page.get_by_text("There is no such page.")).to_be_visible()


async def test_an_admin_shuts_an_operator_out_and_lets_them_in(center: Api, visit) -> None:
    """Two presses; the other's open page says at once that it has no access, and works again afterwards."""
    agent = await center.enrol("one")
    admin, other = await visit(center.url), await visit(center.url)
    other.console.expect("403")
    await admin.come_back((await center.operator()).email, path="/#/access")
    operator = await center.operator(Role.OPERATOR)
    await other.come_back(operator.email)
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


async def test_an_agent_is_let_in_from_the_page(center: Api, visit) -> None:
    """A request is announced wherever the admin is; found by its code, renamed, approved; the agent gets in."""
    await center.enrol("one")
    visitor = await visit(center.url)
    await visitor.come_back((await center.operator()).email)
    page = visitor.page
    about = {"client_id": "onsembl-agent", "name": "builder-1", "kind": "shell", "host": "box", "platform": "Linux"}
    code = (await center.http.post("/v1/device/authorization", data=about)).json()
    await page.get_by_role("link", name="1 agent to let in").click()
    request = page.get_by_role("article", name="Request of builder-1")
    await expect(request.get_by_text(code["user_code"])).to_be_visible()
    await expect(request.get_by_text("box")).to_be_visible()
    await request.get_by_role("textbox", name="Name").fill("one")
    visitor.console.expect("409")
    await request.get_by_role("button", name="Let it in").click()
    await expect(page.get_by_role("alert")).to_have_text("There is an agent named 'one' already.")
    await request.get_by_role("textbox", name="Name").fill("builder-2")
    await request.get_by_role("button", name="Let it in").click()
    await expect(page.get_by_text("No agent waits to be let in.")).to_be_visible()
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": code["device_code"]}
    assert (await center.http.post("/v1/device/token", data=form)).json()["name"] == "builder-2"
    again = (await center.http.post("/v1/device/authorization", data={**about, "name": "three"})).json()
    await page.goto(again["verification_uri_complete"])
    await page.get_by_role("article", name="Request of three").get_by_role("button", name="Turn it away").click()
    await visitor.told("three is turned away.")
    assert (await center.http.post("/v1/device/token", data={**form, "device_code": again["device_code"]})).json()[
        "error"
    ] == "access_denied"


async def test_the_audit_log_is_read_filtered_and_taken_away(center: Api, visit) -> None:
    """Newest first, by filters that the address keeps, a row in full, and a file."""
    await center.enrol("one")
    visitor = await visit(center.url)
    await visitor.come_back((await center.operator()).email, path="/#/audit")
    page = visitor.page
    rows = page.locator("tr.event")
    await expect(rows.filter(has_text="agent.enrolled")).to_have_count(1)
    await expect(rows.filter(has_text="operator.sign_in").first).to_be_visible()
    await expect(page.get_by_text("Chain of hashes:")).to_be_visible()
    await page.get_by_label("Action").fill("agent.")
    await page.get_by_role("button", name="Show").click()
    await expect(rows).to_have_count(1)
    await rows.get_by_role("button").click()
    await expect(page.locator("tr.detail")).to_contain_text('"kind": "shell"')
    await page.reload()
    await expect(rows).to_have_count(1)
    async with page.expect_download() as downloading:
        await page.get_by_role("button", name="CSV").click()
    download = await downloading.value
    assert download.suggested_filename == "onsembl-audit.csv"
    assert "agent.enrolled" in (await download.path()).read_text()
    await page.get_by_role("button", name="Clear").click()
    await expect(rows.filter(has_text="audit.exported")).to_have_count(1)


async def test_an_alert_is_shown_anywhere_and_acknowledged(center: Api, visit) -> None:
    """A stolen refresh token: said at once, wherever the page is, until somebody has seen it."""
    agent = await center.enrol("one")
    visitor = await visit(center.url)
    await visitor.come_back((await center.operator(Role.OPERATOR)).email)
    page = visitor.page
    headers = {"Authorization": f"Bearer {agent.refresh_token}"}
    second = (await center.http.post("/v1/agents/token", headers=headers)).json()["refresh_token"]
    await center.http.post("/v1/agents/token", headers={"Authorization": f"Bearer {second}"})
    await center.http.post("/v1/agents/token", headers=headers)
    await page.get_by_role("link", name="1 alert").click()
    await expect(page.get_by_role("listitem").filter(has_text="A refresh token of one was used twice.")).to_be_visible()
    await page.get_by_role("button", name="Acknowledge").click()
    await expect(page.get_by_role("link", name="1 alert")).to_have_count(0)


async def test_an_admin_withdraws_a_one_time_token(center: Api, visit) -> None:
    """The page lists those that may still be used; one that is withdrawn is gone, and enrols nobody."""
    account = await center.operator()
    visitor = await visit(center.url)
    made = await center.http.post("/v1/enrolment-tokens", json={"name_pattern": "build-*"}, headers=account.headers)
    await visitor.come_back(account.email, path="/#/access")
    row = visitor.page.get_by_role("row").filter(has=visitor.page.get_by_text("build-*"))
    await expect(row).to_contain_text(account.email)
    await visitor.page.get_by_role("button", name="Withdraw the token for build-*").click()
    await expect(row).to_have_count(0)
    await expect(visitor.page.get_by_text("There are none.")).to_be_visible()
    enrol = await center.http.post(
        "/v1/agents/enrol",
        json={"name": "build-1", "kind": "shell"},
        headers={"Authorization": f"Bearer {made.json()['token']}"},
    )
    assert enrol.status_code == 401
