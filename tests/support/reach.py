"""Whether a person reaches the controls of the page: in a small window, and with the keyboard alone."""

from __future__ import annotations

from playwright.async_api import Page

CONTROLS = """(within) => [...document.querySelector(within).querySelectorAll(
        "button, a[href], input, select, textarea, summary, [tabindex]")]
    .filter((one) => !one.disabled && one.closest("[inert], .xterm, .unseen, .skip") === null && one.checkVisibility({
        visibilityProperty: true, contentVisibilityAuto: false }) && one.getBoundingClientRect().width > 1)"""
NAME = """(one) => `${one.tagName} ${one.getAttribute("aria-label") ?? one.textContent.trim().slice(0, 40)}`"""
LOST = f"""(within) => {{
    const lost = [];
    const name = {NAME};
    for (const one of ({CONTROLS})(within)) {{
        one.scrollIntoView({{ block: "nearest", inline: "nearest" }});
        const box = one.getBoundingClientRect();
        const middle = (from, to, most) => (Math.max(0, from) + Math.min(most, to)) / 2; // of the seen part
        const over = document.elementFromPoint(
            middle(box.left, box.right, innerWidth), middle(box.top, box.bottom, innerHeight));
        if (one.matches("[tabindex]:not(button, a, input, select, textarea), .monaco-editor *")) continue; // it scrolls
        if (box.left < -1 || box.right > innerWidth + 1) lost.push(`${{name(one)}} is beside the window`);
        else if (over?.closest(".notice")) continue; // it goes by itself
        else if (over === null || !(one.contains(over) || over.closest("label")?.control === one))
            lost.push(`${{name(one)}} is under ${{over === null ? "nothing" : name(over)}}`);
    }}
    return lost;
}}"""
SIDEWAYS = f"""() => [...document.querySelectorAll(
        "html, body, main, section, nav, header, form, .scroll, .scroll-x, ol, ul")]
    .filter((one) => one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0
        && (["auto", "scroll"].includes(getComputedStyle(one).overflowX) || one.matches("html, body"))
        && one.closest(".scroll-x:not(:has(.cards)), .xterm, pre") === null)
    .map((one) => `${{({NAME})(one)}} ${{one.className}} is scrolled: ${{one.scrollWidth}} in ${{one.clientWidth}}`)"""
MARK = f"""(within) => {{
    for (const one of document.querySelectorAll("[data-to-reach], [data-reached], [data-outside]"))
        for (const name of ["data-to-reach", "data-reached", "data-outside"]) one.removeAttribute(name);
    window.pressed = 0;
    for (const one of ({CONTROLS})(within)) if (one.tabIndex >= 0) one.setAttribute("data-to-reach", "");
}}"""
REACHED = """(within) => {
    const one = document.activeElement;
    if (one === null || one === document.body) return null;
    if (one.closest(within) === null) {
        const again = one.dataset.outside !== undefined;
        one.dataset.outside = "";
        return window.pressed > 0 || again;
    }
    one.removeAttribute("data-to-reach");
    const again = one.dataset.reached;
    one.dataset.reached = String(++window.pressed);
    return again !== undefined && window.pressed - again !== 1; // a field of a date is left by several presses
}"""
BEGIN_IN = """(within) => {
    const part = document.querySelector(within);
    part.tabIndex = -1;
    part.focus();
}"""
LEFT = f"""() => [...document.querySelectorAll("[data-to-reach]")]
    .filter((one) => one.isConnected && !(one.type === "radio" && one.name !== "")).map({NAME})"""


async def begin_in(page: Page, within: str) -> None:
    """Have the next Tab lead to the first control of this part of the page."""
    await page.evaluate(BEGIN_IN, within)


async def lost(page: Page, within: str = "body") -> list[str]:
    """The controls of this part of the page that cannot be scrolled into the window or are covered there, and what is
    scrolled sideways."""
    return [one for script in (LOST, SIDEWAYS) for one in await page.evaluate(script, within)]


async def unreached(page: Page, within: str = "body") -> list[str]:
    """Press Tab until it leaves this part of the page or comes to the same control again; return the controls of the
    part that it has not come to. Where the focus is elsewhere at first, Tab leads into the part first; `begin_in` makes
    that one press."""
    await page.evaluate(MARK, within)
    while await page.evaluate(REACHED, within) is not True:
        await page.keyboard.press("Tab")
    return await page.evaluate(LEFT)
