"""The page in use by an operator: sign-in, terminal, commands, keyboard, connection losses."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from support.agents import CuttableLink, Operator, agent_running
from support.control_center import ControlCenter, clean_environment
from support.expecting import expect
from support.hosts import SimulatedHost
from support.server import PASSWORD, PATIENCE, Api, running

from onsembl.api.settings import Settings
from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.protocol.states import Role
from onsembl.realtime.auth.settings import AuthSettings

PHONE = {"width": 390, "height": 844}


async def test_a_wrong_password_is_reported(center: Api, visit) -> None:
    """A wrong password is rejected with a message."""
    account = await center.operator()
    visitor = await visit(center.url)
    visitor.console.expect("400")
    page = visitor.page
    await page.goto(center.url)
    await page.get_by_label("E-mail").fill(account.email)
    await page.get_by_label("Password").fill("not this")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_have_text("This e-mail and password do not match.")


async def test_an_empty_fleet_says_how_to_enrol(center: Api, visit) -> None:
    """Without agents, the page shows an admin the commands to copy, and the admin creates a token there."""
    visitor = await visit(center.url)
    await visitor.sign_in((await center.operator()).email)
    page = visitor.page
    await expect(page.get_by_text(f"onsembl agent enrol --server {center.url}")).to_be_visible()
    await page.get_by_role("button", name="Create a token").click()
    await expect(page.get_by_text(re.compile("^one_"))).to_be_visible()
    await center.enrol("newcomer")
    await expect(page.locator('[data-agent="newcomer"]')).to_be_visible()


async def test_an_admin_starts_an_agent_on_a_host(center: Api, visit) -> None:
    """Where a machine's owner allows it, the page starts an agent there; what the owner refuses is said in words.
    Without such a machine, the page shows the line by which its owner allows it."""
    visitor = await visit(center.url)
    await visitor.sign_in((await center.operator()).email)
    page = visitor.page
    await expect(page.get_by_text("onsembl agent host --server")).to_be_visible()
    host = await (await SimulatedHost.enrolled(center)).connect()
    await page.reload()
    start = page.get_by_role("button", name="Start the agent")
    await expect(page.get_by_label("Folder, at or below /work")).to_have_value("/work")
    await page.get_by_label("Name", exact=True).fill("helper")
    visitor.console.expect("403")
    await start.click()
    await host.report((await host.next_start())["id"], "refused", "Not today.")
    await expect(page.get_by_role("alert")).to_have_text("machine refuses: Not today.")
    starting = asyncio.create_task(host.start_all())
    await start.click()
    await expect(page.locator('[data-agent="helper"]')).to_be_visible()
    starting.cancel()


async def test_a_person_without_a_role_has_no_access(center: Api, visit) -> None:
    """A person who signs in to Supabase but has no role sees only this message."""
    account = await center.operator()
    async with asyncio.timeout(30):
        await _set_role(center, account.email, None)
    visitor = await visit(center.url)
    visitor.console.expect("403")
    page = visitor.page
    await page.goto(center.url)
    await page.get_by_label("E-mail").fill(account.email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_text("has no access")).to_be_visible()


async def test_a_viewer_only_looks(center: Api, visit, tmp_path: Path) -> None:
    """A viewer sees terminal and commands live, but has no command box and no Cancel buttons."""
    async with agent_running(center, tmp_path):
        operator = await visit(center.url)
        await operator.sign_in((await center.operator(Role.OPERATOR)).email)
        viewer = await visit(center.url)
        await viewer.sign_in((await center.operator(Role.VIEWER)).email)
        await operator.send("echo shown-$((1+1)); sleep 1000")
        await viewer.sees("shown-2")
        await expect(viewer.command("echo shown-$((1+1)); sleep 1000", "running")).to_be_visible()
        assert await viewer.page.get_by_role("textbox", name="Command for").count() == 0
        assert await viewer.page.get_by_role("button", name=re.compile("^Cancel")).count() == 0


async def test_a_phone_stops_a_command(center: Api, visit, tmp_path: Path) -> None:
    """On a phone, an agent's link opens its terminal, the running command is shown below it, and two taps cancel it."""
    account = await center.operator(Role.OPERATOR)
    async with agent_running(center, tmp_path):
        large = await visit(center.url)
        await large.sign_in(account.email)
        await large.attached()
        await large.send("sleep 1000")
        phone = await visit(center.url, PHONE, has_touch=True, is_mobile=True)
        await phone.sign_in(account.email, path="/#/agents/one")
        await phone.attached()
        await phone.tap_twice(phone.page.locator(".now").get_by_role("button", name="Cancel"))
        await phone.page.get_by_role("button", name="Commands").tap()
        await expect(phone.command("sleep 1000", "cancelled")).to_be_visible()


async def test_keyboard_shortcuts(center: Api, visit) -> None:
    """The palette, the list of agents, the command box and the help are reached without a mouse; the column of commands
    is folded by a key, and stays folded."""
    for name in ("alpha", "beta", "gamma"):
        await center.enrol(name)
    visitor = await visit(center.url)
    page = visitor.page
    await visitor.come_back((await center.operator()).email)
    current = page.locator('[data-agent][aria-current="page"]')
    await expect(current).to_have_attribute("data-agent", "alpha")
    await page.keyboard.press("j")
    await expect(current).to_have_attribute("data-agent", "beta")
    await page.keyboard.press("k")
    await expect(current).to_have_attribute("data-agent", "alpha")
    await page.keyboard.press("Control+k")
    await expect(page.get_by_role("combobox", name="Agent or action")).to_be_focused()  # its code comes later
    await page.keyboard.type("gam")
    await page.keyboard.press("Enter")
    await expect(current).to_have_attribute("data-agent", "gamma")
    await page.keyboard.press("c")
    await expect(page.get_by_role("textbox", name="Command for gamma")).to_be_focused()
    await page.keyboard.type("echo j?k")
    await expect(current).to_have_attribute("data-agent", "gamma")
    await page.keyboard.press("Escape")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.keyboard.press("Control+f")
    await expect(page.get_by_role("textbox", name="Find in the terminal")).to_be_focused()
    await page.keyboard.press("Escape")
    commands = page.locator(".commands")
    await expect(commands).to_be_visible()
    await page.keyboard.press("]")
    await expect(commands).to_be_hidden()
    await page.reload()
    await visitor.live()
    await expect(commands).to_be_hidden()
    await page.keyboard.press("3")
    await expect(commands).to_be_visible()


async def test_commands_written_fast_all_arrive_in_order(center: Api, visit, tmp_path: Path) -> None:
    """The command box is empty at once, so text that is typed during a request is kept, and the commands stay in
    order."""
    async with agent_running(center, tmp_path):
        visitor = await visit(center.url)
        await visitor.come_back((await center.operator()).email)
        await visitor.attached()
        for n in range(8):
            await visitor.send(f"echo n{n}e")
        for n in range(8):
            await expect(visitor.command(f"echo n{n}e", "succeeded")).to_be_visible()
        await visitor.sees("\nn7e")  # its output, not the command
        lines = (await visitor.terminal()).splitlines()
        assert [line for line in lines if re.fullmatch(r"n\de", line)] == [f"n{n}e" for n in range(8)]


async def test_a_draft_stays_with_its_agent(center: Api, visit) -> None:
    """A draft for one agent is not sent to another, and is still there when the agent is selected again."""
    for name in ("alpha", "beta"):
        await center.enrol(name)
    visitor = await visit(center.url)
    page = visitor.page
    await visitor.come_back((await center.operator()).email)
    await page.get_by_role("textbox", name="Command for alpha").fill("rm -r build")
    await page.locator('[data-agent="beta"]').click()
    await expect(page.get_by_role("textbox", name="Command for beta")).to_have_value("")
    await page.locator('[data-agent="alpha"]').click()
    await expect(page.get_by_role("textbox", name="Command for alpha")).to_have_value("rm -r build")


async def test_the_live_mark_follows_the_network(center: Api, visit, tmp_path: Path) -> None:
    """A cut connection shows as reconnecting; after it, missed changes arrive and the terminal is complete."""
    account = await center.operator(Role.OPERATOR)
    async with agent_running(center, tmp_path) as agent, CuttableLink(center.url) as link:
        visitor = await visit(link.url)
        visitor.console.expect("WebSocket|ERR_")
        await visitor.come_back(account.email)
        await visitor.send("echo before")
        await expect(visitor.command("echo before", "succeeded")).to_be_visible()
        link.sever()
        await expect(visitor.page.locator('[data-mark="reconnecting"]')).to_be_visible()
        response = await center.http.post(
            f"/v1/agents/{agent.id}/commands", json={"text": "echo mean$((1))while"}, headers=account.headers
        )
        assert response.status_code == 201
        link.mend()
        await visitor.live()
        await expect(visitor.command("echo mean$((1))while", "succeeded")).to_be_visible()
        await visitor.sees("mean1while")
        text = await visitor.terminal()
        assert text.count("\nbefore") == 1 and text.count("\nmean1while") == 1


async def test_missing_output_is_marked(center: Api, visit, tmp_path: Path) -> None:
    """Too much output to send to a reconnected window is marked where it is missing, and the rest follows."""
    account = await center.operator()
    async with agent_running(center, tmp_path) as agent, CuttableLink(center.url) as link:
        visitor = await visit(link.url)
        visitor.console.expect("WebSocket|ERR_")
        await visitor.come_back(account.email)
        await visitor.send("echo seen-$((1))")
        await visitor.sees("seen-1")
        link.sever()
        await expect(visitor.page.locator('.host[data-link="waiting"]')).to_be_visible()
        operator = Operator(center, account)
        flood = await operator.send(agent.id, "head -c 12000000 /dev/zero | tr '\\0' '\\r'; echo last-$((1))")
        await operator.until_state(flood, "succeeded")
        link.mend()
        await visitor.sees("last-1")
        text = await visitor.terminal()
        assert "output is missing here" in text and text.index("seen-1") < text.index("missing")


async def test_an_ended_session_leads_to_sign_in(center: Api, visit) -> None:
    """A session that the server does not renew ends at the sign-in page, with the reason."""
    visitor = await visit(center.url)
    visitor.console.expect("400")
    await visitor.sign_in((await center.operator()).email)
    # Before the next document's own scripts: a request of the open page would use the session up and keep the reason.
    await visitor.page.add_init_script(
        """{
            const key = Object.keys(localStorage).find((key) => key.endsWith("-auth-token"));
            const session = JSON.parse(localStorage.getItem(key));
            localStorage.setItem(key, JSON.stringify({...session, expires_at: 1, refresh_token: "revoked"}));
        }"""
    )
    await visitor.page.reload()
    await expect(visitor.page.get_by_text("Your session has ended.")).to_be_visible()


async def test_signing_out_stays_signed_out(center: Api, visit) -> None:
    """After sign-out a reload shows the sign-in page, without a reason for the end of the session."""
    visitor = await visit(center.url)
    await visitor.sign_in((await center.operator()).email)
    await visitor.page.get_by_role("button", name="Account").click()
    await visitor.page.get_by_role("button", name="Sign out").click()
    await expect(visitor.page.get_by_label("E-mail")).to_be_visible()
    await visitor.page.reload()
    await expect(visitor.page.get_by_label("E-mail")).to_be_visible()
    assert await visitor.page.get_by_text("has ended").count() == 0


@pytest.mark.parametrize("megabytes", [6, pytest.param(30, marks=pytest.mark.soak)])
async def test_a_flood_ends_with_its_last_line(center: Api, visit, tmp_path: Path, megabytes: int) -> None:
    """Output that is faster than the browser draws neither stalls the page nor loses its end."""
    async with agent_running(center, tmp_path):
        visitor = await visit(center.url)
        await visitor.come_back((await center.operator()).email)
        await visitor.attached()
        await visitor.send(f"head -c {megabytes}000000 /dev/zero | tr '\\0' x | fold -w 99; echo flood-is-$((1))-over")
        await visitor.sees("flood-is-1-over", patience_ms=120_000)
        await visitor.page.keyboard.press("Escape")
        await visitor.page.keyboard.press("?")
        await expect(visitor.page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()


async def test_search_finds_text_in_the_scrollback(center: Api, visit, tmp_path: Path) -> None:
    """The terminal's search counts its matches in the scrollback and goes from one to the next."""
    async with agent_running(center, tmp_path):
        visitor = await visit(center.url)
        await visitor.come_back((await center.operator()).email)
        await visitor.attached()
        await visitor.send("for i in 1 2 3; do echo needle-$i; seq 100; done; echo at-the-$((1))-end")
        await visitor.sees("at-the-1-end")
        page = visitor.page
        await page.keyboard.press("Control+f")
        await expect(page.get_by_role("textbox", name="Find in the terminal")).to_be_focused()
        await page.keyboard.type("needle-\\d")
        await page.get_by_role("button", name="Regular expression").click()
        counter = page.get_by_role("search").get_by_role("status")
        await expect(counter).to_have_text("3 of 3")
        await page.get_by_role("button", name="Earlier match").click()
        await expect(counter).to_have_text("2 of 3")


async def test_texts_have_enough_contrast(center: Api, visit, tmp_path: Path) -> None:
    """Every text of the page reaches the contrast of WCAG AA (4.5 : 1) in both themes."""
    account = await center.operator()
    async with agent_running(center, tmp_path):
        visitor = await visit(center.url)
        page = visitor.page
        await visitor.come_back(account.email)
        await visitor.send("false")
        await expect(visitor.command("false", "failed")).to_be_visible()
        await visitor.send("true")
        await expect(visitor.command("true", "succeeded")).to_be_visible()
        for scheme in ("dark", "light"):
            await page.emulate_media(color_scheme=scheme)
            runs, waits = f"sleep 1000 # {scheme}", f"echo later # {scheme}"
            await visitor.send(runs)
            await expect(visitor.command(runs, "running")).to_be_visible()
            await visitor.send(waits, priority=2)
            await expect(visitor.command(waits, "queued")).to_be_visible()
            assert await page.evaluate("(scheme) => matchMedia(`(prefers-color-scheme: ${scheme})`).matches", scheme)
            faint = await page.evaluate(CONTRAST)
            assert faint == [], json.dumps(faint, indent=1)
            for text in (waits, runs):
                row = visitor.command(text).filter(has=page.get_by_role("button", name=re.compile("^Cancel")))
                said, faint = await row.get_by_role("button", name=re.compile("^Cancel")).evaluate(PRESS_TWICE)
                assert (said, faint) == ("Press again", [])
                await expect(visitor.command(text, "cancelled")).to_be_visible()


CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] / 255 + below[i] * (1 - top[3] / 255));
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const element = node.parentElement;
    if (!node.textContent.trim() || element.closest(".xterm, :disabled") || !element.checkVisibility()) continue;
    const below = ground(element);
    const [light, dark] = [luminance(over(rgba(getComputedStyle(element).color), below)), luminance(below)]
      .sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) faint.push({text: node.textContent.trim().slice(0, 40), ratio: ratio.toFixed(2)});
  }
  return faint;
}"""


PRESS_TWICE = f"""async (button) => {{
  button.click();
  await new Promise(requestAnimationFrame);
  const between = [button.textContent.trim(), ({CONTRAST})()];
  button.click();
  return between;
}}"""


async def _set_role(center: Api, email: str, role: Role | None) -> None:
    """Set the role as an admin of the Supabase project does."""
    from onsembl.realtime.auth.settings import AUTH_ROLE
    from onsembl.sql import auth_users
    from onsembl.sql.database import connect

    async with await connect(center.database_url, role=AUTH_ROLE) as conn:
        user = next(row for row in await auth_users.list_users(conn, 10, 0) if row["email"] == email)
        await auth_users.update(conn, user["id"], app_metadata={"role": role})


async def test_a_refreshed_token_keeps_the_page_live(
    settings: Settings, dashboard: Path, visit, tmp_path: Path
) -> None:
    """After the renewal of the session's token the channel and the terminal stay open on their connections."""
    # The client renews a token with less than 120 s left: it checks every 30 s and when the page becomes visible.
    short = replace(settings, dashboard=dashboard, auth=AuthSettings(access_token_lifetime=95))
    async with running(short) as center, agent_running(center, tmp_path):
        visitor = await visit(center.url)
        visitor.console.expect("ERR_CONNECTION_REFUSED")  # the window outlives the server
        joins, renewals = [], []
        visitor.page.on("websocket", lambda socket: joins.append(socket.url))
        visitor.page.on(
            "request", lambda request: renewals.append(request.url) if "refresh_token" in request.url else 0
        )
        await visitor.sign_in((await center.operator()).email)
        await visitor.attached()
        opened, before = len(joins), len(renewals)
        async with asyncio.timeout(90):
            while len(renewals) == before:
                await visitor.page.evaluate("() => window.dispatchEvent(new Event('visibilitychange'))")
                await asyncio.sleep(0.1)
        await visitor.send("echo after-$((1+1))")
        await visitor.sees("after-2")
        await expect(visitor.command("echo after-$((1+1))", "succeeded")).to_be_visible()
        await visitor.live()
        assert renewals and len(joins) == opened, "no socket was opened again"


async def test_the_page_is_up_to_date_after_a_restart_of_its_database(
    own_postgres: EmbeddedPostgres, settings: Settings, dashboard: Path, visit, tmp_path: Path
) -> None:
    """After Postgres stops under load and starts again, the page shows the present state without a reload."""
    here = replace(settings, dashboard=dashboard, database_url=own_postgres.url())
    async with running(here) as center, agent_running(center, tmp_path):
        visitor = await visit(center.url)
        visitor.console.expect("503|WebSocket|ERR_")
        account = await center.operator()
        await visitor.come_back(account.email)
        await visitor.send("until test -e go; do sleep 0.05; done")
        await expect(visitor.command("until test -e go; do sleep 0.05; done", "running")).to_be_visible()
        await asyncio.to_thread(own_postgres.stop)
        (tmp_path / "go").touch()
        await expect(visitor.page.locator('[data-mark="reconnecting"]')).to_be_visible()
        await asyncio.to_thread(own_postgres.start)
        began = time.monotonic()
        await expect(visitor.command("until test -e go; do sleep 0.05; done", "succeeded")).to_be_visible()
        await visitor.live()
        print(f"up to date {time.monotonic() - began:.1f} s after the database was back")


@asynccontextmanager
async def up(folder: Path, database_url: str, port: int = 0) -> AsyncGenerator[Api]:
    """An `onsembl up` in a process of its own, and an agent that starts and stops with it."""
    environment = clean_environment(DATABASE_URL=database_url)
    with ControlCenter(folder / "data", port=port, environment=environment) as center:
        await asyncio.to_thread(center.ready)
        async with httpx.AsyncClient(base_url=center.address, timeout=PATIENCE, verify=False) as http:
            api = Api(center.address, database_url, http)
            async with agent_running(api, folder):
                yield api
        await asyncio.to_thread(center.stop)


@pytest.mark.seconds(6)
async def test_the_page_outlives_its_server(database_url: str, dashboard: Path, visit, tmp_path: Path) -> None:
    """While the server is down, the page shows this and keeps its rows; afterwards it shows the present state."""
    async with up(tmp_path, database_url) as center:
        visitor = await visit(center.url)
        visitor.console.expect("ERR_CONNECTION_REFUSED|WebSocket|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|503")
        await visitor.sign_in((await center.operator()).email)
        await visitor.page.locator('[data-agent="one"]').click()
        await visitor.send("echo before-$((1+1))")
        await expect(visitor.command("echo before-$((1+1))", "succeeded")).to_be_visible()
        await visitor.send("sleep 1000")
        await expect(visitor.command("sleep 1000", "running")).to_be_visible()

    await expect(visitor.page.locator('[data-mark="reconnecting"]')).to_be_visible()
    await expect(visitor.page.locator('.host:not([data-link="attached"])')).to_be_visible()
    await expect(visitor.command("echo before-$((1+1))", "succeeded")).to_be_visible()

    async with up(tmp_path, database_url, urlsplit(center.url).port or 0) as center:
        await visitor.live()
        await visitor.attached()
        await expect(visitor.page.locator('[data-agent="one"][data-status="online"]')).to_be_visible()
        await visitor.send("echo after-$((1+1))")
        await visitor.sees("after-2")
        await expect(visitor.command("echo after-$((1+1))", "succeeded")).to_be_visible()
        shown = await visitor.page.eval_on_selector_all(
            "li[data-command]",
            "(rows) => Object.fromEntries(rows.map((row) => [row.dataset.command, row.dataset.state]))",
        )
        answer = await center.http.get("/v1/commands", headers=(await center.sign_in("admin@example.org")).headers)
        assert shown == {row["id"]: row["state"] for row in answer.json()["commands"]}
