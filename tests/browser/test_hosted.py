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
