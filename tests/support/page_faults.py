"""Faults of a view of the page: of accessibility, hidden characters, parts outside of the window or over others, and
motion where none is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from playwright.async_api import Page

AXE = Path(__file__).parents[2] / "dashboard" / "node_modules" / "axe-core" / "axe.min.js"
"""The script that `faults` needs in the page."""
VIOLATIONS = """async ([within, rules]) => {
    const only = rules === null ? {} : { runOnly: rules };
    const { violations } = await axe.run(within, { resultTypes: ["violations"], preload: false, ...only });
    const reason = ({ any, all, none }) => [...any, ...all, ...none][0]?.message ?? "";
    const told = (id, node) => `${id}: ${node.target.join(" ")} ${reason(node)}`;
    return violations.flatMap(({ id, nodes }) => nodes.map((node) => told(id, node)));
}"""
HIDDEN = r"""() => {
    const characters = /(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/u;
    const joined = /(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])\u200d|\ufe0f/gu;
    const hidden = { test: (text) => characters.test(text.replace(joined, "")) }; // a joiner within an emoji is seen
    const found = [];
    for (const element of document.querySelectorAll("*")) {
        if (element.closest("textarea, input, script, style, .xterm") !== null) continue;
        const own = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data);
        const shown = ["title", "aria-label", "placeholder"].map((name) => element.getAttribute(name) ?? "");
        const texts = [...own, ...shown].filter((text) => hidden.test(text));
        found.push(...texts.map((text) => `${element.tagName} ${JSON.stringify(text)}`));
    }
    if (hidden.test(document.title)) found.push("the title");
    return found;
}"""
OUTSIDE = """() => [...document.querySelectorAll("header *, .bar *, .control *, nav *, .box *")]
    .filter((element) => {
        const { left, right, width, height } = element.getBoundingClientRect();
        const seen = width > 1 && height > 1 && getComputedStyle(element).visibility !== "hidden";
        return seen && element.closest(".unseen, .keys, .labels") === null && (right > innerWidth + 1 || left < -1);
    }).map((element) => `${element.tagName}.${element.className} ${element.textContent.trim().slice(0, 40)}`)"""
OVERLAPPING = """() => {
    const clipped = (element) =>
        element !== null && (getComputedStyle(element).clipPath !== "none" || clipped(element.parentElement));
    const shown = ({ width, height, element }) =>
        width > 1 && height > 1 && !clipped(element) && getComputedStyle(element).visibility !== "hidden";
    const parts = [...document.querySelectorAll("header *, .bar *, .control *")]
        .filter((element) => element.childElementCount === 0 || element.tagName === "BUTTON")
        .map((element) => ({ element, ...element.getBoundingClientRect().toJSON() })).filter(shown);
    const over = (a, b) =>
        a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1
        && !a.element.contains(b.element) && !b.element.contains(a.element)
        && a.element.closest(".labels") === null && b.element.closest(".labels") === null  // a strip that scrolls
        && a.element.closest("dialog") === b.element.closest("dialog");  // a dialog lies over everything else
    const name = ({ element }) => `${element.tagName} ${element.textContent.trim().slice(0, 20)}`;
    const pairs = parts.flatMap((a, i) => parts.slice(i + 1).filter((b) => over(a, b)).map((b) => [a, b]));
    return pairs.map(([a, b]) => `${name(a)} over ${name(b)}`);
}"""

MOVING = """() => matchMedia("(prefers-reduced-motion: reduce)").matches
    ? document.getAnimations().map(({ effect, animationName }) => `${effect.target.className} moves: ${animationName}`)
    : []"""


async def faults(page: Page, view: str, within: str = "html", rules: Sequence[str] | None = None) -> list[str]:
    """What is wrong with the view that the page shows. axe-core takes most of the time: a test of many views lets it
    look at what differs from a view before, `within` a part of the page or by some of its `rules`."""
    found: list[str] = await page.evaluate(VIOLATIONS, [within, rules])
    for script in (HIDDEN, OUTSIDE, OVERLAPPING, MOVING):
        found += await page.evaluate(script)
    return [f"{view}: {fault}" for fault in found]
