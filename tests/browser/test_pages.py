"""The pages other than the fleet's: how they are reached, and by which role."""

from __future__ import annotations

from uuid import UUID

from support.api_calls import audit_entries
from support.expecting import expect
from support.frames import HELLO_TEXT
from support.server import Api

from onsembl.protocol.ids import AgentId
from onsembl.protocol.states import Role
from onsembl.sql import recovery


async def test_pages_are_reached_from_anywhere(center: Api, visit) -> None:
    """The navigation, the palette and the address lead to a page, and the back button leads back to the fleet."""
    await center.enrol("one")
    visitor = await visit(center.url)
    await visitor.come_back((await center.operator()).email)
    page = visitor.page
    await page.get_by_role("navigation", name="Pages", exact=True).get_by_role("link", name="Admin").click()
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
    await page.get_by_role("navigation", name="All pages").get_by_role("link", name="Agents").click()
    await expect(page.locator('[data-agent="one"]')).to_be_visible()


async def test_a_page_of_an_earlier_release_says_that_it_must_be_loaded_again(center: Api, visit) -> None:
    """The server has no file of the earlier release any more: a page that needs one says so, and a reload mends it."""
    visitor = await visit(center.url)
    await visitor.come_back((await center.operator()).email)
    page = visitor.page
    visitor.console.expect("404")
    await page.route("**/assets/*.js", lambda route: route.fulfill(status=404))
    await page.goto(f"{center.url}/#/access")
    await expect(page.get_by_role("alert").filter(has_text="the server may have a newer release")).to_be_visible()
    await page.unroute_all()
    await page.get_by_role("button", name="Reload the page").click()
    await expect(page.locator('[data-page="access"]').get_by_role("heading", name="Recovery")).to_be_visible()


async def test_a_page_names_the_role_that_it_requires(center: Api, visit) -> None:
    """A viewer who opens an admin's page by its address sees the required role; an unknown page is reported, too."""
    visitor = await visit(center.url)
    await visitor.come_back((await center.operator(Role.VIEWER)).email, path="/#/access")
    await expect(visitor.page.get_by_text("This page requires the role admin; your role is viewer.")).to_be_visible()
    await visitor.page.goto(center.url + "/#/nowhere")
    await expect(visitor.page.get_by_text("This page does not exist.")).to_be_visible()


async def test_an_admin_disables_and_enables_an_operator(center: Api, visit) -> None:
    """An admin disables an operator by two presses, whose page then has no access, and an agent in the same way."""
    agent = await center.enrol("one")
    admin, other = await visit(center.url), await visit(center.url)
    other.console.expect("403")
    await admin.come_back((await center.operator()).email, path="/#/access")
    operator = await center.operator(Role.OPERATOR)
    await other.come_back(operator.email)
    async with center.agent_socket(agent) as socket:
        await socket.send(HELLO_TEXT)
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


async def test_an_admin_opens_and_closes_a_recovery(center: Api, visit) -> None:
    """After a restored backup, an admin opens a recovery by two presses, sees who comes back, and closes it, all
    in the audit log. Agents without a secret are named."""
    agent, other = await center.enrol("one"), await center.enrol("two")
    async with center.services.pool.connection() as conn:
        await recovery.remove_secret(conn, AgentId(UUID(other.id)))
    visitor = await visit(center.url)
    await visitor.come_back((await center.operator()).email, path="/#/access")
    section = visitor.page.get_by_role("region", name="Recovery")
    await expect(
        section.get_by_text("Without a recovery secret, these agents could not come back: two.")
    ).to_be_visible()
    await section.get_by_label("For").select_option("1 hour")
    await section.get_by_role("button", name="Open a recovery").click()
    await section.get_by_role("button", name="Press again to open a recovery").click()
    await expect(section.get_by_text("No agent has come back yet.")).to_be_visible()
    headers = {"Authorization": f"Bearer {agent.recovery_secret}"}
    assert (await center.http.post("/v1/agents/recover", json={}, headers=headers)).status_code == 200
    await expect(section.get_by_role("cell", name="one", exact=True)).to_be_visible()
    await section.get_by_role("button", name="Close the recovery").click()
    await section.get_by_role("button", name="Press again to close the recovery").click()
    await expect(section.get_by_text("The last one was opened")).to_be_visible()
    await expect(section.get_by_role("cell", name="one", exact=True)).to_be_visible()
    actions = [action for action, _ in await audit_entries(center, "%recover%")]
    assert actions == ["recovery.opened", "agent.recovered", "recovery.closed"]


async def test_an_admin_approves_an_agent(center: Api, visit) -> None:
    """The header shows a request on every page; the admin renames and approves it, and rejects another."""
    await center.enrol("one")
    visitor = await visit(center.url)
    await visitor.come_back((await center.operator()).email)
    page = visitor.page
    about = {"client_id": "onsembl-agent", "name": "builder-1", "kind": "shell", "host": "box", "platform": "Linux"}
    code = (await center.http.post("/v1/device/authorization", data=about)).json()
    await page.get_by_role("link", name="1 agent to approve").click()
    request = page.get_by_role("article", name="Request of builder-1")
    await expect(request.get_by_text(code["user_code"])).to_be_visible()
    await expect(request.get_by_text("box")).to_be_visible()
    await request.get_by_role("textbox", name="Name").fill("one")
    visitor.console.expect("409")
    await request.get_by_role("button", name="Approve", exact=True).click()
    await expect(page.get_by_role("alert")).to_have_text("There is already an agent named 'one'.")
    await request.get_by_role("textbox", name="Name").fill("builder-2")
    await request.get_by_role("button", name="Approve", exact=True).click()
    await expect(page.get_by_text("No agent is waiting for approval.")).to_be_visible()
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": code["device_code"]}
    assert (await center.http.post("/v1/device/token", data=form)).json()["name"] == "builder-2"
    again = (await center.http.post("/v1/device/authorization", data={**about, "name": "three"})).json()
    await page.goto(again["verification_uri_complete"])
    await page.get_by_role("article", name="Request of three").get_by_role("button", name="Reject").click()
    await visitor.noticed("three is rejected.")
    assert (await center.http.post("/v1/device/token", data={**form, "device_code": again["device_code"]})).json()[
        "error"
    ] == "access_denied"


async def test_the_audit_log_is_read_filtered_and_exported(center: Api, visit) -> None:
    """The audit log is listed newest first, filtered by the address, shown in full for one event, and exported."""
    await center.enrol("one")
    visitor = await visit(center.url)
    await visitor.come_back((await center.operator()).email, path="/#/audit")
    page = visitor.page
    rows = page.locator("tr.event")
    await expect(rows.filter(has_text="agent.enrolled")).to_have_count(1)
    await expect(rows.filter(has_text="operator.sign_in").first).to_be_visible()
    await expect(page.get_by_text("Hash chain:")).to_be_visible()
    await page.get_by_label("Action").fill("agent.")
    await page.get_by_role("button", name="Apply").click()
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


async def test_an_alert_is_shown_on_every_page_and_acknowledged(center: Api, visit) -> None:
    """A reused refresh token raises an alert at once, in the header of every page, until it is acknowledged."""
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


async def test_an_admin_withdraws_an_enrolment_token(center: Api, visit) -> None:
    """The page lists unused tokens; a withdrawn token disappears and enrols no agent."""
    account = await center.operator()
    visitor = await visit(center.url)
    made = await center.http.post("/v1/enrolment-tokens", json={"name_pattern": "build-*"}, headers=account.headers)
    await visitor.come_back(account.email, path="/#/access")
    row = visitor.page.get_by_role("row").filter(has=visitor.page.get_by_text("build-*"))
    await expect(row).to_contain_text(account.email)
    await visitor.page.get_by_role("button", name="Withdraw the token for build-*").click()
    await expect(row).to_have_count(0)
    await expect(visitor.page.get_by_text("There are no unused tokens.")).to_be_visible()
    enrol = await center.http.post(
        "/v1/agents/enrol",
        json={"name": "build-1", "kind": "shell"},
        headers={"Authorization": f"Bearer {made.json()['token']}"},
    )
    assert enrol.status_code == 401
