"""The browser of the tests and of the screenshots: the system's Chromium, else Playwright's own.

`python tests/support/chromium.py` prints its path, and fails where there is none.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first one draws no window around a page: tests take two thirds of the time with it."""
UNUSED_FEATURES = (
    # The address bar loads these pages beside each page, which takes as long as the page itself.
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    # Chromium only uses the last such list: these are from Playwright's list.
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsUpgrades",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
    "ThirdPartyStoragePartitioning",
)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--disable-features={','.join(UNUSED_FEATURES)}",
]


def chromium_path(downloaded: str) -> str:
    """The path of the system's Chromium, else of Playwright's at `downloaded`."""
    path = _system_chromium() or downloaded
    assert Path(path).exists(), f"there is no Chromium: none of {', '.join(NAMES)}, nor Playwright's; run ./dev test"
    return path


@functools.cache
def _system_chromium() -> str | None:
    """The first Chromium that runs: on Ubuntu, `chromium-browser` may be a script that only names a snap."""
    for path in filter(None, map(shutil.which, NAMES)):
        if subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return None


if __name__ == "__main__":
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    try:
        print(chromium_path(own))
    except AssertionError as error:
        sys.exit(str(error))
