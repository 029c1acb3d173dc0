"""Screenshots that a test of the page takes on the way, for a person to look at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from playwright.async_api import Page, ViewportSize

FOLDER = os.environ.get("ONSEMBL_PICTURES")
DESK: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}


async def picture(page: Page, name: str) -> None:
    """Save a screenshot, if `ONSEMBL_PICTURES` names a folder."""
    if FOLDER:
        await page.screenshot(path=Path(FOLDER) / f"{name}.png")


async def pictures(page: Page, name: str, sizes: Sequence[ViewportSize] = (DESK, PHONE)) -> None:
    """Save a screenshot in each size, dark and light, if `ONSEMBL_PICTURES` names a folder."""
    if FOLDER:
        for size in sizes:
            await page.set_viewport_size(size)
            for theme in ("dark", "light"):
                await page.emulate_media(color_scheme=theme)
                await picture(page, f"{name}-{size['width']}-{theme}")
