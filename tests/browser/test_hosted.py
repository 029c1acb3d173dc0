"""The page with a hosted Supabase project, which another process plays."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
import pytest
from playwright.async_api import expect
from support.control_center import ControlCenter
from support.supabase_project import supabase_project


def sleeping(seconds: str) -> list[int]:
    return [p.pid for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", seconds]]


KINDS = {
    "password and link": ({"email": True}, ["Sign in", "Send me a sign-in link"]),
    "providers, too": (
        {"email": True, "phone": True, "google": True, "github": True},
        ["Sign in", "Send me a sign-in link", "Continue with GitHub", "Continue with Google"],
    ),
    "one provider": ({"email": False, "keycloak": True}, ["Continue with Keycloak"]),
}
"""Projects by the ways to sign in that their Auth enables, and the buttons of the page."""


@pytest.mark.seconds(12)
async def test_the_page_offers_the_ways_to_sign_in_of_the_project(
    postgres, dashboard: Path, visit, tmp_path, subtests
) -> None:
    """The sign-in page has a button for each way that the project's settings enable; a provider's leads to the
    project's Auth, with a challenge that only this page can answer."""
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
                if "keycloak" in external:
                    await visitor.page.route("**/auth/v1/authorize?**", lambda route: route.fulfill(body="Keycloak"))
                    async with visitor.page.expect_request("**/auth/v1/authorize?**") as leaving:
                        await visitor.page.get_by_role("button", name="Continue with Keycloak").click()
                    address = (await leaving.value).url
                    assert address.startswith(project.environment["SUPABASE_URL"])
                    assert "provider=keycloak" in address and "code_challenge=" in address
                await visitor.page.close()
        await asyncio.to_thread(center.stop)


@pytest.mark.seconds(12)
async def test_the_page_lives_by_another_processs_auth_and_realtime(postgres, dashboard: Path, visit, tmp_path) -> None:
    """An operator signs in, sees a command succeed and cancels another, without the built-in Supabase."""
    with supabase_project(postgres) as project:
        await asyncio.to_thread(project.onsembl, "supabase", "setup")
        added = await asyncio.to_thread(
            project.onsembl, "operator", "add", "a@example.org", "--role", "admin", ONSEMBL_OPERATOR_PASSWORD="good one"
        )
        assert added.returncode == 0, added.stderr
        center = ControlCenter(tmp_path / "data", "--demo", environment=project.environment)
        with center:
            await asyncio.to_thread(center.ready)
            visitor = await visit(center.address)
            await visitor.sign_in("a@example.org", "good one")
            await expect(visitor.page.locator('[data-agent="demo"][data-status="online"]')).to_be_visible()
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
            for path in ("/auth/v1/health", "/realtime/v1/websocket"):
                answer = await visitor.page.request.get(center.address + path)
                assert answer.status == 404, "the built-in Supabase is mounted"
            # The context manager of the process blocks; the browser's sockets must be able to close meanwhile.
            await visitor.page.close()
            await asyncio.to_thread(center.stop)
