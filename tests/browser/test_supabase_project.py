"""The page with a hosted Supabase project, which another process plays."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from support.agents import agent_at
from support.control_center import ControlCenter
from support.expecting import expect
from support.mailbox import mailbox
from support.supabase_project import SupabaseProject, supabase_project

if TYPE_CHECKING:
    from .conftest import Visitor


def sleeping(seconds: str) -> list[int]:
    return [p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", seconds]]


EMAIL = "ann@example.org"
KINDS = {
    "password and link": ({"email": True}, ["Sign in", "Send me a sign-in link", "I forgot my password"]),
    "providers, too": (
        {"email": True, "phone": True, "google": True, "github": True},
        ["Sign in", "Send me a sign-in link", "Continue with GitHub", "Continue with Google", "I forgot my password"],
    ),
    "one provider": ({"email": False, "keycloak": True}, ["Continue with Keycloak"]),
}
"""Projects by the ways to sign in that their Auth enables, and the buttons of the page."""


@pytest.mark.seconds(4)
async def test_the_page_offers_the_ways_to_sign_in_of_the_project(
    postgres, dashboard: Path, visit, tmp_path, subtests
) -> None:
    """The sign-in page has a button for each way that the project's settings enable."""
    with (
        supabase_project(postgres) as project,
        ControlCenter(tmp_path / "data", environment=project.environment) as center,
    ):
        await asyncio.to_thread(center.ready)
        for kind, (external, buttons) in KINDS.items():
            with subtests.test(kind=kind):
                project.settings = {"external": external}
                visitor = await visit(center.address)
                await visitor.page.goto(center.address)
                await expect(visitor.page.locator("form button")).to_have_text(buttons)
                await visitor.page.close()
        await asyncio.to_thread(center.stop)


@pytest.mark.seconds(10)
async def test_every_way_to_sign_in_leads_back_to_the_page(postgres, dashboard: Path, visit, tmp_path) -> None:
    """A provider, a sign-in link and a link for a new password lead back to the page, which signs the operator in or
    shows the error; an account with an authenticator app is asked for its code."""
    async with mailbox() as box:
        with (
            supabase_project(postgres, mail_server=box.server) as project,
            ControlCenter(tmp_path / "data", environment=project.environment) as center,
        ):
            project.settings = {"external": {"email": True, "keycloak": True}}
            await asyncio.to_thread(center.ready)
            added = await asyncio.to_thread(
                project.onsembl, "operator", "add", EMAIL, "--role", "admin", ONSEMBL_OPERATOR_PASSWORD="good one"
            )
            assert added.returncode == 0, added.stderr
            visitor = await visit(center.address)
            page = visitor.page

            async def sign_out() -> None:
                await page.get_by_role("button", name="Account").click()
                await page.get_by_role("button", name="Sign out").click()
                await expect(page.get_by_label("E-mail")).to_be_visible()

            await page.goto(center.address)
            for answer in ("Deny", "Allow"):
                await page.get_by_role("button", name="Continue with Keycloak").click()
                await page.get_by_role("link", name=answer).click()
                if answer == "Deny":
                    denied = "The sign-in did not succeed: The user has denied access"
                    await expect(page.get_by_text(denied)).to_be_visible()
                    assert page.url == f"{center.address}/"
            await visitor.live()
            assert page.url == f"{center.address}/"
            await sign_out()

            await page.goto(f"{center.address}/#/history")
            await page.get_by_label("E-mail").fill(EMAIL)
            await page.get_by_role("button", name="Send me a sign-in link").click()
            await expect(page.get_by_text("a link to sign in is on its way")).to_be_visible()
            link = await box.link()
            elsewhere = (await visit(center.address)).page
            await elsewhere.goto(link)
            await expect(elsewhere.get_by_text("begun in another browser")).to_be_visible()
            await page.goto(link)
            await visitor.live()
            await expect(page).to_have_url(f"{center.address}/#/history")
            await sign_out()
            visitor.console.expect("status of 40[134]")
            await page.goto(link)
            await expect(page.get_by_text("The link has expired or was used before")).to_be_visible()

            await page.get_by_label("E-mail").fill(EMAIL)
            await page.get_by_role("button", name="I forgot my password").click()
            await page.goto(await box.link())
            await page.get_by_role("textbox", name="New password").fill("better one")
            await page.get_by_role("button", name="Set the password").click()
            await visitor.live()
            await sign_out()

            factor = await asyncio.to_thread(project.add_factor, EMAIL)
            await page.get_by_label("E-mail").fill(EMAIL)
            await page.get_by_label("Password").fill("better one")
            await page.get_by_role("button", name="Sign in", exact=True).click()
            code = page.get_by_label("Code of your authenticator app")
            visitor.console.expect("status of 422")
            await code.fill("12345")  # a digit is missing
            await page.get_by_role("button", name="Continue", exact=True).click()
            await expect(page.get_by_text("This code is not valid")).to_be_visible()
            await page.reload()
            await code.fill(factor.code())
            await page.get_by_role("button", name="Continue", exact=True).click()
            await visitor.live()
            await page.close()
            await asyncio.to_thread(center.stop)


UNTIL_READ_ONLY = """async ([key, readOnly]) => {
    const { access_token } = JSON.parse(localStorage.getItem(key));
    const known = async () => {
        const answer = await fetch("/v1/me", { headers: { Authorization: `Bearer ${access_token}` } });
        return answer.ok && (await answer.json()).read_only === readOnly;
    };
    while (!(await known())) await new Promise((resolve) => setTimeout(resolve, 100));
}"""


async def the_server_knows(visitor: Visitor, read_only: bool) -> None:
    """Wait until the server has noticed that its database takes no changes, or takes them again."""
    async with asyncio.timeout(60):
        await visitor.page.evaluate(UNTIL_READ_ONLY, ["sb-127-auth-token", read_only])


async def the_project_turns_read_only(project: SupabaseProject, visitor: Visitor) -> None:
    """The page says so, still shows everything, and takes commands again afterwards."""
    banner = visitor.page.locator("[data-read-only]")
    visitor.console.expect("status of 503")
    await asyncio.to_thread(project.read_only, True)
    await the_server_knows(visitor, True)
    await visitor.page.reload()
    await expect(banner).to_be_visible()
    await expect(visitor.command("echo hello-$((40+2))", "succeeded")).to_be_visible()
    await visitor.send("echo never")
    await expect(visitor.page.get_by_text("so nothing can be changed")).to_be_visible()
    await asyncio.to_thread(project.read_only, False)
    await the_server_knows(visitor, False)
    await banner.get_by_role("button", name="Look again").click()
    await expect(banner).to_be_hidden()
    await visitor.send("echo again")
    await expect(visitor.command("echo again", "succeeded")).to_be_visible()


@pytest.mark.seconds(8)
async def test_the_page_lives_by_another_processs_auth_and_realtime(postgres, dashboard: Path, visit, tmp_path) -> None:
    """An operator signs in, sees a command succeed and cancels another, without the built-in Supabase."""
    with supabase_project(postgres) as project:
        await asyncio.to_thread(project.onsembl, "supabase", "setup")
        added = await asyncio.to_thread(
            project.onsembl, "operator", "add", "a@example.org", "--role", "admin", ONSEMBL_OPERATOR_PASSWORD="good one"
        )
        assert added.returncode == 0, added.stderr
        with ControlCenter(tmp_path / "data", environment=project.environment) as center:
            await asyncio.to_thread(center.ready)
            visitor = await visit(center.address)
            await visitor.sign_in("a@example.org", "good one")
            async with agent_at(center.address, project.owner, tmp_path):
                await visitor.page.locator('[data-agent="one"][data-status="online"]').click()
                await visitor.send("echo hello-$((40+2))")
                await visitor.sees("hello-42")
                await expect(visitor.command("echo hello-$((40+2))", "succeeded")).to_be_visible()
                seconds = f"2000.{os.getpid()}"
                await visitor.send(f"sleep {seconds}")
                running = visitor.command(f"sleep {seconds}", "running")
                await expect(running).to_be_visible()
                await visitor.cancel(running)
                await expect(visitor.command(f"sleep {seconds}", "cancelled")).to_be_visible()
                assert sleeping(seconds) == []
                await the_project_turns_read_only(project, visitor)
                for path in ("/auth/v1/health", "/realtime/v1/websocket"):
                    answer = await visitor.page.request.get(center.address + path)
                    assert answer.status == 404, "the built-in Supabase is mounted"
            # The context manager of the process blocks; the browser's sockets must be able to close meanwhile.
            await visitor.page.close()
            await asyncio.to_thread(center.stop)
