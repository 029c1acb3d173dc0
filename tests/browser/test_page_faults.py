"""Every view of the page, at the widths of a desk, a laptop and a phone: accessible, inside of the window, and without
hidden characters."""

from __future__ import annotations

import gzip
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Page
from support.agents import Operator, agent_running
from support.expecting import expect
from support.page_faults import AXE, faults
from support.server import Api

from onsembl.sql.database import connect

SIZES: tuple[tuple[int, int, Literal["dark", "light"], Sequence[str] | None], ...] = (
    (1440, 900, "dark", None),
    (1024, 768, "light", ["color-contrast"]),
    (390, 844, "dark", None),
)
"""Width, height, theme, and the rules of axe-core: the laptop has the elements of the desk in other colours, the phone
has elements of its own."""
PAGES = (
    "wall",
    "stream",
    "inbox",
    "history",
    "presets",
    "schedules",
    "recordings",
    "statistics",
    "audit",
    "access",
    "approve",
    "alerts",
)
HOSTILE = "x \x1b]0;owned\x07\x1b[2J \u202egro.kcatta\u202c \u200b"
EMOJI = ("\U0001f469\u200d\U0001f4bb", "\u2764\ufe0f", "\U0001f1e9\U0001f1ea", "\U0001fae8")
READ = dict.fromkeys(PAGES, r"\\u202e") | {
    "wall": "one",
    "stream": "shown-2",
    "recordings": "MiB|KiB|bytes",
    "statistics": "Agents connected",
    "access": "ada@|example",
    "audit": "requested",
    "schedules": "nightly",
}
"""What is shown when a page has read its rows: a foreign text with its hidden characters escaped, where it has one."""


async def filled(api: Api, operator: Operator, agent_id: str) -> None:
    """Put foreign texts wherever an agent, an operator or a machine that asks to enrol can leave them."""
    lines = "".join(f"{one}xx\\r\\033[2C[{number}]\\n" for number, one in enumerate(EMOJI))
    command = await operator.send(agent_id, f"printf '{lines}'; echo shown-$((1+1))")
    await operator.until_state(command, "succeeded")
    body = {"description": "d", "template": "Update {{package}}.", "variables": [{"name": "package", "help": "h"}]}
    await api.http.put("/v1/presets/update", json=body, headers=operator.headers)
    schedule = {"name": "nightly", "target": {"all": True}, "text": "make", "cron": "0 6 * * *"}
    assert (await api.http.post("/v1/schedules", json=schedule, headers=operator.headers)).is_success
    asked = {"name": "new", "kind": "shell", "host": "a-host", "version": "1"}
    assert (await api.http.post("/v1/device/authorization", data=asked)).is_success
    async with await connect(api.database_url, autocommit=True) as conn:
        await conn.execute("insert into onsembl.alerts (kind, text) values ('refresh_token_reused', %s)", [HOSTILE])
        for table, column in (
            *(("agents", "host"), ("agents", "platform"), ("commands", "text"), ("commands", "note")),
            *(("commands", "error"), ("commands", "requested_by_name"), ("device_requests", "host")),
            *(("presets", "description"), ("presets", "template"), ("schedules", "text")),
        ):
            await conn.execute(f"update onsembl.{table} set {column} = %s", [HOSTILE])  # type: ignore[arg-type]
        await conn.execute(
            """insert into onsembl.attention (id, agent_id, command_id, kind, title, body, digest)
            select gen_random_uuid(), agent_id, id, 'plan', %s, '{"kind": "plan", "plan": "Go on."}', repeat('0', 64)
            from onsembl.commands limit 1""",
            [HOSTILE],
        )
        await conn.execute("update onsembl.agents set labels = %s", [[HOSTILE]])


@pytest.mark.seconds(10)
async def test_every_view_is_accessible_and_shows_texts_as_they_are(center: Api, visit, tmp_path: Path) -> None:
    """axe-core finds nothing, no hidden character is on the page, and nothing of the bars is outside of the window."""
    account = await center.operator()
    operator = Operator(center, account)
    found: list[str] = []
    async with agent_running(center, tmp_path) as agent:
        await filled(center, operator, agent.id)
        visitor = await visit(center.url)
        page = visitor.page
        await page.add_init_script(path=AXE)
        await page.goto(center.url)
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        found += await faults(page, "sign-in")
        await visitor.sign_in(account.email)
        await visitor.sees("shown-2")
        for number, one in enumerate(EMOJI):  # each takes two columns
            await visitor.sees(f"\n{one}[{number}]")
        running = await operator.send(agent.id, "read line")
        await operator.until_state(running, "running")
        await expect(page.get_by_role("button", name="Type here")).to_be_visible()
        await page.keyboard.press("t")
        await expect(page.locator('[data-control="mine"]')).to_be_visible()
        dialogs = dialogs_of(page)
        for width, height, theme, rules in SIZES:
            first = width == SIZES[0][0]  # what is around a page or a dialog is later looked at with the agent's page
            await page.set_viewport_size({"width": width, "height": height})
            await page.emulate_media(color_scheme=theme)
            await page.goto(f"{center.url}/#/agents/one")
            await visitor.live()
            views = ["terminal"] if width > 720 else ["agents", "terminal", "commands"]
            for view in views:
                if width < 720:
                    await page.get_by_role("navigation", name="Views").get_by_role("button", name=view.title()).click()
                found += await faults(page, f"{view} {width}", rules=rules)
            for name, open_dialog in dialogs.items():
                await open_dialog()
                await expect(page.get_by_role("dialog")).to_be_visible()
                found += await faults(page, f"{name} {width}", "html" if first else "dialog[open]", rules)
                await page.keyboard.press("Escape")
                await expect(page.get_by_role("dialog")).to_have_count(0)
            for name in PAGES:
                await page.goto(f"{center.url}/#/{name}")
                await expect(page.locator(f'[data-page="{name}"] h2, [data-page="{name}"] h3').first).to_be_visible()
                await expect(page.locator(f'[data-page="{name}"]')).to_contain_text(re.compile(READ[name]))
                found += await faults(page, f"{name} {width}", "html" if first else "main", rules)
    assert found == [], "\n".join(sorted(set(found)))


def dialogs_of(page: Page) -> dict[str, Callable[[], Awaitable[object]]]:
    return {
        "palette": lambda: page.get_by_role("button", name="Go to agent").click(),
        "shortcuts": lambda: page.keyboard.press("?"),
        "stop": lambda: page.get_by_role("button", name="Emergency stop").click(),
    }


def test_the_first_page_is_small(dashboard: Path) -> None:
    """What the first page loads is at most 100 kB compressed, also by gzip alone, which is all that browsers take over
    plain HTTP; the code of the terminal and of Realtime is loaded later."""
    page = (dashboard / "index.html").read_text()
    names = ["index.html", *re.findall(r'(?:src|href)="/(assets/[^"]+\.(?:js|css|svg))"', page)]
    for suffix in ("br", "gz"):
        sizes = {name: (dashboard / f"{name}.{suffix}").stat().st_size for name in names}
        assert len(sizes) >= 4 and sum(sizes.values()) <= 100_000, sizes
    assert not [name for name in names if re.search("(terminal|session|realtime)-", name)]
    for name in names:
        content = (dashboard / name).read_bytes()
        assert gzip.decompress((dashboard / f"{name}.gz").read_bytes()) == content


def test_the_shared_components_are_one_script(dashboard: Path) -> None:
    """What several pages need comes in one script, which loads no large package; a page of an agent has no script of
    less than a kilobyte for each of its parts."""
    (components,) = (dashboard / "assets").glob("components-*.js")
    loaded = set(re.findall(r'from"\./([a-z-]+)-[^"]+\.js"', components.read_text()))
    assert loaded == {"index", "rolldown-runtime"}
    assert not list((dashboard / "assets").glob("AgentPage-*.js"))
