"""Pictures of the dashboard's pages, on a desk (dark and light), a laptop and a phone: `./dev screenshots FOLDER`.

Starts a control center on a data folder of its own, connects a fleet of forty agents, adds reports, a preset and
schedules, and saves a PNG of each page in each view. With `--hold` the fleet stays until Ctrl-C, to be looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import psycopg
from playwright.sync_api import Browser, Page, expect, sync_playwright
from support.chromium import ARGUMENTS, chromium_path
from support.control_center import COMMAND, ControlCenter, clean_environment
from support.folders import data_folder
from support.pictured_agents import FLEET
from support.pictured_fleet import bearer, pictured_fleet

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.enrol import enrol
from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.protocol.states import AgentKind


@dataclass(frozen=True, slots=True)
class View:
    """A window and its theme."""

    width: int
    height: int
    theme: Literal["dark", "light"]


VIEWS = {
    "dark": View(1440, 900, "dark"),
    "light": View(1440, 900, "light"),
    "1024": View(1024, 768, "light"),
    "phone": View(390, 844, "dark"),
}
AGENT = "api-builder"
"""The agent whose terminal the picture of the fleet shows."""
CODING_AGENT = "billing"
PROMPT = "Customers report invoices that are one cent off. Find out why, fix it, and push a branch."
PAGES = {
    "sign-in": "",
    "fleet": f"#/agents/{AGENT}",
    "turn": f"#/agents/{CODING_AGENT}",
    "waiting": f"#/agents/{FLEET[0].name}",
    "wall": "#/wall?layout=4x3",
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
    "alerts": "#/alerts",
}
"""Each picture's name, and the page's address."""
SCALE = 2
TOKENS = ("--agent-access-token", "86400")
"""The pictured agents do not renew their tokens, and `--hold` may be for a day."""
SECONDS = 60.0
ATTACHED = '.host[data-link="attached"]'
FIT = """() => document.querySelector('button[aria-label$="Fit to me"]')?.click()"""
WEBP = """async (png) => {
    const image = await createImageBitmap(await (await fetch(png)).blob());
    const canvas = new OffscreenCanvas(image.width, image.height);
    canvas.getContext("2d").drawImage(image, 0, 0);
    const webp = await canvas.convertToBlob({ type: "image/webp", quality: 0.8 });
    const bytes = new Uint8Array(await webp.arrayBuffer());
    return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
}"""
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
HOSTS = {AGENT: "build-1", CODING_AGENT: "build-2", "laptop": "ada-laptop"}
PLATFORM = "Linux x86_64"
LABELS = {AGENT: ["api", "ci"], CODING_AGENT: ["billing"], "laptop": []}
DENIAL = "I push it myself."
OPERATORS = ("ben@example.org", "chen@example.org")
PRESET = {
    "description": "Upgrade a dependency and fix what breaks",
    "template": "Update {{package}}{{#version}} to {{version}}{{/version}}. Run the tests and fix what breaks.",
    "variables": [{"name": "package", "required": True}, {"name": "version"}],
}
SCHEDULES: list[dict[str, Any]] = [
    {"name": "nightly-tests", "target": {"labels": ["ci"]}, "text": "make test", "cron": "30 2 * * *"},
    {
        "name": "weekly-update",
        "target": {"agents": ["dependencies"]},
        "text": "Update all dependencies.",
        "cron": "0 6 * * mon",
    },
    {"name": "backup", "target": {"agents": ["backup-check"]}, "text": "restic backup /srv", "cron": "0 */6 * * *"},
    {
        "name": "ranking",
        "target": {"agents": ["search-compare"]},
        "text": "Compare the rankings.",
        "cron": "15 7 * * 1-5",
        "time_zone": "Europe/Berlin",
    },
]


class Demo:
    """The running control center, its operators, and what they send."""

    def __init__(self, folder: Path, center: ControlCenter) -> None:
        self.url = center.address
        self.email, self.password = re.findall(r"(?:Sign in with|and password) +(\S+)", center.output)
        self._folder = folder
        self._environment = clean_environment()
        self.database_url = EmbeddedPostgres(folder / "data").url()
        self._http = httpx.Client(base_url=self.url, timeout=SECONDS)
        self.operators = [self._signed_in(self.email), *(self._added(email) for email in OPERATORS)]
        """The headers of the admin and of the others."""

    def _added(self, email: str) -> dict[str, str]:
        environment = self._environment | {"ONSEMBL_OPERATOR_PASSWORD": self.password}
        command = [*COMMAND, "operator", "add", email, "--data-dir", str(self._folder / "data")]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return self._signed_in(email)

    def _signed_in(self, email: str) -> dict[str, str]:
        key = self._http.get("/config.json").json()["supabase_key"]
        account = {"email": email, "password": self.password}
        answer = self._http.post("/auth/v1/token?grant_type=password", json=account, headers={"apikey": key})
        return bearer(answer.raise_for_status().json()["access_token"])

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        answer = self._http.request(method, path, json=body, headers=self.operators[0])
        assert answer.is_success, f"{path}: {answer.text}"
        return answer.json()

    def enrol(self, name: str, kind: str = "shell") -> None:
        """Enrols an agent, which stays offline."""
        token = self._call("POST", "/v1/enrolment-tokens", {"name_pattern": name})["token"]
        store.save(self._folder / "agents" / name, asyncio.run(enrol(self.url, token, name, AgentKind(kind))))

    @contextmanager
    def agent(self, name: str, kind: str = "shell") -> Generator[None]:
        """Runs an agent of this project until the block ends."""
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

    def send(self, name: str, text: str, *, wait: bool = False) -> None:
        """Sends a command, and with `wait` waits for its end; requests that it makes are denied."""
        agents = self._call("GET", "/v1/agents")["agents"]
        agent = next(agent["id"] for agent in agents if agent["name"] == name)
        command = self._call("POST", f"/v1/agents/{agent}/commands", {"text": text})
        deadline = time.monotonic() + SECONDS
        while wait and command["ended_at"] is None:
            assert time.monotonic() < deadline, f"{text} does not end"
            time.sleep(0.1)
            for request in self._call("GET", f"/v1/attention?agent_id={agent}")["requests"]:
                denial = {"digest": request["digest"], "decision": {"decision": "deny", "reason": DENIAL}}
                if request["state"] == "open":
                    self._call("POST", f"/v1/attention/{request['id']}/answer", denial)
            command = self._call("GET", f"/v1/commands/{command['id']}")

    def fill(self) -> None:
        """Adds ended commands in several states, a running one, two queued ones, a preset and schedules."""
        for text in ("make lint", "make release", "make test"):
            self.send(AGENT, text, wait=True)
        self.send(CODING_AGENT, PROMPT, wait=True)
        for text in ("make watch", "make release", "make test"):
            self.send(AGENT, text)
        self._call("PUT", "/v1/presets/Upgrade", PRESET)
        for schedule in SCHEDULES:
            self._call("POST", "/v1/schedules", schedule)

    def rename_hosts(self) -> None:
        """Replaces the name and system of this machine, which the pictures must not show."""
        with psycopg.connect(self.database_url, autocommit=True) as conn:
            for name, host in HOSTS.items():
                conn.execute(
                    "update onsembl.agents set host = %s, platform = %s, labels = %s where name = %s",
                    [host, PLATFORM, LABELS[name], name],
                )


@contextmanager
def demo() -> Generator[Demo]:
    """A control center with agents online and offline, and with ended, running and queued commands."""
    with data_folder() as folder, ControlCenter(folder / "data", *TOKENS) as center, ExitStack() as stack:
        made = Demo(folder, center.ready())
        stack.enter_context(pictured_fleet(made.url, made.operators, made.database_url))
        stack.enter_context(made.agent(AGENT))
        stack.enter_context(made.agent(CODING_AGENT, "claude"))
        made.enrol("laptop")
        made.fill()
        made.rename_hosts()
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
        page.evaluate(FIT)
        expect(page.get_by_role("button", name="Fit to me")).to_have_count(0)
        if (reading := page.locator(".reading")).count() > 0:  # it shows new text a moment later
            expect(reading).to_contain_text("Watching")
    elif name == "waiting":
        expect(page.locator(ATTACHED)).to_be_visible()
        page.wait_for_function("() => window.onsembl.terminal.text().includes('rounded lines')")
        expect(page.locator("[data-request][data-ready]").first).to_be_visible()
    elif name == "turn":
        page.get_by_role("button", name="Turn", exact=True).click()
        steps = page.get_by_role("region", name="Turn")
        steps.get_by_text("/srv/billing/billing/invoice.py").click()
        steps.get_by_text("uv run pytest tests/test_invoices.py -q").first.click()
        expect(steps.get_by_text("1 failed, 14 passed")).to_be_visible()
        page.locator(".seen").evaluate("(seen) => seen.scrollTo(0, 0)")
    elif name == "wall":
        expect(page.locator('[data-tile][data-link="attached"]')).to_have_count(12)
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


def as_webp(browser: Browser, png: bytes) -> bytes:
    """The picture in a third of its size, for the documents."""
    page = browser.new_page()
    try:
        return b64decode(page.evaluate(WEBP, f"data:image/png;base64,{b64encode(png).decode()}"))
    finally:
        page.close()


def take(
    browser: Browser, demo: Demo, view: str, names: Iterable[str], folder: Path, scale: int, *, webp: bool = False
) -> None:
    """Saves the pictures of one view."""
    window = VIEWS[view]
    page = browser.new_page(
        viewport={"width": window.width, "height": window.height},
        device_scale_factor=scale,
        color_scheme=window.theme,
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
        path = folder / f"{name}-{view}.{'webp' if webp else 'png'}"
        png = page.screenshot(animations="disabled", caret="hide")
        path.write_bytes(as_webp(browser, png) if webp else png)
        print(path, flush=True)
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="./dev screenshots", description="Pictures of the pages, on a desk (dark and light), a laptop and a phone."
    )
    parser.add_argument("folder", type=Path, help="where the PNGs go")
    parser.add_argument("--only", nargs="+", choices=PAGES, default=list(PAGES), help="these pages")
    parser.add_argument("--views", nargs="+", choices=VIEWS, default=list(VIEWS), help="these views")
    parser.add_argument("--scale", type=int, default=SCALE, help=f"pixels for each of the page's; {SCALE} if not given")
    parser.add_argument("--webp", action="store_true", help="as WebP, which is smaller")
    parser.add_argument("--hold", action="store_true", help="then keep the fleet until Ctrl-C, and say where it is")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    expect.set_options(timeout=SECONDS * 1000)
    with demo() as filled, sync_playwright() as playwright:
        path = chromium_path(playwright.chromium.executable_path)
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        for view in options.views:
            take(browser, filled, view, options.only, options.folder, options.scale, webp=options.webp)
        browser.close()
        print(f"{len(options.views) * len(options.only)} pictures in {time.monotonic() - began:.0f} s", file=sys.stderr)
        if options.hold:
            print(f"{filled.url} for {filled.email} with {filled.password}", flush=True)
            signal.sigwait([signal.SIGINT])


if __name__ == "__main__":
    main()
