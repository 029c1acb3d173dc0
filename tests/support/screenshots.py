"""Pictures of the dashboard's pages, dark and light: `./dev screenshots FOLDER`.

Starts a control center with the demo agent on a data folder of its own, adds agents, commands, a preset and schedules,
so that the pages have something to show, and saves a PNG of each page in each theme.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import httpx
import msgspec
import psycopg
from playwright.sync_api import Browser, Page, expect, sync_playwright
from support.chromium import ARGUMENTS, chromium_path
from support.control_center import COMMAND, ControlCenter, clean_environment
from support.folders import data_folder

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.protocol.attention_messages import (
    PermissionBody,
    PlanBody,
    Question,
    QuestionBody,
    QuestionOption,
    RequestBody,
)

Theme = Literal["dark", "light"]
THEMES: tuple[Theme, ...] = ("dark", "light")
AGENT = "api-builder"
"""The agent whose terminal the picture of the fleet shows."""
CODING_AGENT = "billing"
PROMPT = "Customers report invoices that are one cent off. Find out why, fix it, and push a branch."
PAGES = {
    "sign-in": "",
    "fleet": f"#/agents/{AGENT}",
    "turn": f"#/agents/{CODING_AGENT}",
    "wall": "#/wall",
    "stream": "#/stream",
    "inbox": "#/inbox",
    "history": "#/history",
    "reports": "#/reports",
    "presets": "#/presets",
    "schedules": "#/schedules",
    "recordings": "#/recordings",
    "usage": "#/usage",
    "statistics": "#/statistics",
    "audit": "#/audit",
    "access": "#/access",
}
"""Each picture's name, and the page's address."""
SIZE = (1440, 900)
SCALE = 2
SECONDS = 60.0
ATTACHED = '.host[data-link="attached"]'
PROGRAMS = {
    "make": r"""#!/bin/sh
say() { printf "$@"; sleep 0.03; }
case "$1" in
test | watch)
    for part in accounts billing catalogue invoices mail orders payments search sessions webhooks; do
        say '\033[32mPASS\033[0m  tests/test_%s.py\n' "$part"
    done
    say '\n\033[1m214 passed\033[0m\n'
    ;;
lint)
    say 'api/orders.py:118  \033[33mwarning\033[0m  unused import: datetime\n'
    say '1 warning in 86 files\n'
    ;;
release)
    say 'building  \033[36mapi 2.4.0\033[0m\n'
    say '\033[31merror\033[0m     CHANGELOG.md has no entry for 2.4.0\n'
    exit 1
    ;;
esac
if [ "$1" = watch ]; then
    say '\nWatching for changes '
    while sleep 1; do printf '.'; done
fi
""",
}
"""Programs on the agents' PATH."""
CLAUDE = Path(__file__).with_name("pictured_claude.py")
HOSTS = {AGENT: "build-1", CODING_AGENT: "build-2", "demo": "build-1", "docs-writer": "build-2", "laptop": "ada-laptop"}
PLATFORM = "Linux x86_64"
PRESET = {
    "description": "Upgrade a dependency and fix what breaks",
    "template": "Update {{package}}{{#version}} to {{version}}{{/version}}. Run the tests and fix what breaks.",
    "variables": [{"name": "package", "required": True}, {"name": "version"}],
}
REQUESTS: dict[str, RequestBody] = {
    "make release VERSION=2.4.0": PermissionBody(
        tool="Bash",
        tool_kind="execute",
        folder="/home/ada/api",
        input=json.dumps({"command": "make release VERSION=2.4.0", "timeout": 120000}),
        rules=["Bash(make release VERSION=2.4.0)", "Bash(make *)"],
        editable=True,
    ),
    "Edit CHANGELOG.md": PermissionBody(
        tool="Edit",
        tool_kind="edit",
        folder="/home/ada/api",
        input=json.dumps({"file_path": "CHANGELOG.md"}),
        diff="--- a/CHANGELOG.md\n+++ b/CHANGELOG.md\n@@ -1,2 +1,4 @@\n # Changelog\n+\n+## 2.4.0\n \n",
    ),
    "Which database do the tests use?": QuestionBody(
        questions=[
            Question(
                id="database",
                text="Which database do the tests use?",
                options=[QuestionOption(label="SQLite"), QuestionOption(label="Postgres")],
            )
        ]
    ),
    "Plan: give orders their own schema": PlanBody(
        plan="# Orders\n\n1. Create the schema\n2. Copy the rows in batches\n3. Switch the readers\n"
    ),
}
"""Requests for the picture of the inbox, oldest first: title and body."""


class Demo:
    """The running control center, and the command line of its first operator."""

    def __init__(self, folder: Path, center: ControlCenter) -> None:
        self.url = center.address
        self.email, self.password = re.findall(r"(?:Sign in with|and password) +(\S+)", center.output)
        self._folder = folder
        self._environment = clean_environment(
            ONSEMBL_SERVER=self.url, ONSEMBL_TOKEN=self._access_token(), ONSEMBL_KEYRING="off"
        )

    def _access_token(self) -> str:
        with httpx.Client(base_url=self.url, timeout=SECONDS) as http:
            answer = http.post(
                "/auth/v1/token?grant_type=password",
                json={"email": self.email, "password": self.password},
                headers={"apikey": http.get("/config.json").json()["supabase_key"]},
            )
            return answer.raise_for_status().json()["access_token"]

    def onsembl(self, *arguments: str, stdin: str = "", **environment: str) -> str:
        """Runs `onsembl`; returns its output. Its exit code may be that of an agent's command."""
        command = [*COMMAND, *arguments]
        result = subprocess.run(
            command, env=self._environment | environment, input=stdin, capture_output=True, text=True, check=False
        )
        assert "Error" not in result.stderr, result.stderr
        return result.stdout

    def enrol(self, name: str, kind: str = "shell") -> None:
        """Enrols an agent, which stays offline."""
        token = json.loads(self.onsembl("enrolment-tokens", "create", "--name-pattern", name, "--json"))["token"]
        where = ("--server", self.url, "--state-dir", f"{self._folder}/agents")
        self.onsembl("agent", "enrol", "--name", name, "--kind", kind, *where, ONSEMBL_ENROLMENT_TOKEN=token)

    @contextmanager
    def agent(self, name: str, kind: str = "shell") -> Generator[None]:
        """Runs another agent until the block ends."""
        self.enrol(name, kind)
        programs, work = self._folder / "programs", self._folder / "work" / name
        programs.mkdir(exist_ok=True)
        work.mkdir(parents=True)
        for program, text in PROGRAMS.items():
            (programs / program).write_text(text)
            (programs / program).chmod(0o755)
        (programs / "claude").unlink(missing_ok=True)
        (programs / "claude").symlink_to(CLAUDE)
        where = ("--state-dir", f"{self._folder}/agents", "--cwd", str(work))
        path = f"{programs}:{self._environment['PATH']}"
        process = subprocess.Popen(
            [*COMMAND, "agent", "run", "--name", name, *where], env=self._environment | {"PATH": path}
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(SECONDS)

    def fill(self) -> None:
        """Adds ended commands in several states, a running one, two queued ones, a preset and schedules."""
        for text in ("make lint", "make release", "make test"):
            self.onsembl("send", "--agent", AGENT, "--wait", text)
        self.onsembl("send", "--agent", "docs-writer", "--wait", "make release")
        self.onsembl("send", "--agent", "demo", "--wait", "ls -la")
        self.onsembl("presets", "save", "Upgrade", "-", stdin=json.dumps(PRESET))
        nightly = ("--cron", "30 2 * * *", "--text", "make test")
        self.onsembl("schedules", "add", "nightly-tests", "--agent", AGENT, *nightly)
        weekly = ("--cron", "0 6 * * mon", "--preset", "Upgrade", "--set", "package=httpx")
        self.onsembl("schedules", "add", "weekly-update", "--agent", "docs-writer", *weekly)
        self.onsembl("send", "--agent", CODING_AGENT, "--wait", PROMPT)
        for text in ("make watch", "make release", "make test"):
            self.onsembl("send", "--agent", AGENT, text)

    def ask(self) -> None:
        """Adds requests that wait for a person: a command line, a change of a file, a question and a plan."""
        with psycopg.connect(EmbeddedPostgres(self._folder / "data").url(), autocommit=True) as conn:
            for minutes, (title, body) in enumerate(reversed(REQUESTS.items()), 3):
                conn.execute(
                    """insert into onsembl.attention (id, agent_id, command_id, kind, title, body, digest, asked_at)
                    select gen_random_uuid(), agents.id, commands.id, %s, %s, %s, repeat('0', 64),
                        now() - make_interval(mins => %s)
                    from onsembl.agents join onsembl.commands on commands.agent_id = agents.id
                    where agents.name = 'docs-writer' limit 1""",
                    [body.__struct_config__.tag, title, msgspec.json.encode(body).decode(), minutes],
                )

    def rename_hosts(self) -> None:
        """Replaces the name and system of this machine, which the pictures must not show."""
        with psycopg.connect(EmbeddedPostgres(self._folder / "data").url(), autocommit=True) as conn:
            for name, host in HOSTS.items():
                conn.execute(
                    "update onsembl.agents set host = %s, platform = %s where name = %s", [host, PLATFORM, name]
                )


@contextmanager
def demo() -> Generator[Demo]:
    """A control center with agents online and offline, and with ended, running and queued commands."""
    with data_folder() as folder, ControlCenter(folder / "data", "--demo") as center, ExitStack() as stack:
        made = Demo(folder, center.ready())
        for name in (AGENT, "docs-writer"):
            stack.enter_context(made.agent(name))
        stack.enter_context(made.agent(CODING_AGENT, "claude"))
        made.enrol("laptop")
        made.fill()
        made.rename_hosts()
        made.ask()
        yield made


def sign_in(page: Page, email: str, password: str) -> None:
    """Signs in and waits until the page is live."""
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator('[data-mark="live"]')).to_be_visible()


def show(page: Page, url: str, name: str) -> None:
    """Opens a page, and waits until its content is complete."""
    page.goto(f"{url}/{PAGES[name]}")
    if name == "sign-in":
        expect(page.get_by_label("E-mail")).to_be_visible()
    elif name == "fleet":
        expect(page.locator(ATTACHED)).to_be_visible()
        page.wait_for_function("() => window.onsembl.terminal.text().includes('Watching')")
    elif name == "turn":
        page.get_by_role("button", name="Turn", exact=True).click()
        steps = page.get_by_role("region", name="Turn")
        steps.get_by_text("/srv/billing/billing/invoice.py").click()
        steps.get_by_text("uv run pytest tests/test_invoices.py -q").first.click()
        expect(steps.get_by_text("1 failed, 14 passed")).to_be_visible()
        page.locator(".seen").evaluate("(seen) => seen.scrollTo(0, 0)")
    elif name == "wall":
        page.wait_for_function("(name) => window.onsembl.tile(name).includes('Watching')", arg=AGENT)
    elif name == "stream":
        expect(page.locator("[data-line]").filter(has_text="214 passed").first).to_be_visible()
    else:
        shown = page.locator(f'[data-page="{name}"]')
        expect(shown.locator("h2").first).to_be_visible()
        expect(shown.get_by_role("status")).to_have_count(0)  # a status shows that the page is loading
        if name == "statistics":  # rates need a second reading
            expect(shown.locator('[data-statistic="cpu"]')).not_to_have_attribute("data-value", "")
    page.mouse.move(0, 0)
    page.evaluate("() => document.fonts.ready.then(() => true)")


def take(browser: Browser, demo: Demo, theme: Theme, names: Iterable[str], folder: Path, scale: int) -> None:
    """Saves the pictures of one theme."""
    width, height = SIZE
    page = browser.new_page(
        viewport={"width": width, "height": height},
        device_scale_factor=scale,
        color_scheme=theme,
        reduced_motion="reduce",
        locale="en-GB",
        timezone_id="UTC",
    )
    show(page, demo.url, "sign-in")
    signed_in = False
    for name in names:
        if name != "sign-in" and not signed_in:
            sign_in(page, demo.email, demo.password)
            signed_in = True
        show(page, demo.url, name)
        path = folder / f"{name}-{theme}.png"
        page.screenshot(path=path, animations="disabled", caret="hide")
        print(path, flush=True)
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev screenshots", description="Pictures of the pages, dark and light.")
    parser.add_argument("folder", type=Path, help="where the PNGs go")
    parser.add_argument("--only", nargs="+", choices=PAGES, default=list(PAGES), help="these pages")
    parser.add_argument("--scale", type=int, default=SCALE, help=f"pixels for each of the page's; {SCALE} if not given")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    expect.set_options(timeout=SECONDS * 1000)
    with demo() as filled, sync_playwright() as playwright:
        path = chromium_path(playwright.chromium.executable_path)
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        for theme in THEMES:
            take(browser, filled, theme, options.only, options.folder, options.scale)
        browser.close()
    print(f"{len(THEMES) * len(options.only)} pictures in {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
