"""Reports on the page: listed as they are written, read with code in colours, pinned and exported."""

from __future__ import annotations

from support.agents import agent_running
from support.expecting import expect
from support.page_faults import AXE, faults
from support.pictures import picture
from support.reports import EXCERPT, add_report, report_of
from support.server import Api

from onsembl.protocol.states import Role

HOSTILE = "<img src=x onerror=\"document.title='owned'\"> [x](javascript:alert(1)) \u202egro.kcatta\u202c"


async def test_a_report_is_read_pinned_and_exported(center: Api, visit, tmp_path) -> None:
    """A report appears when it is written; code has colours and the lines of its file; what does not fit is shown as it
    came; hostile text stays text, also in an exported page that is opened by itself. At every width."""
    agent = await center.enrol("builder", "claude")
    visitor = await visit(center.url)
    page = visitor.page
    await page.add_init_script(path=AXE)
    await visitor.come_back((await center.operator(Role.OPERATOR)).email, path="/#/reports")
    await expect(page.get_by_text("No agent has written a report yet.")).to_be_visible()
    broken = await add_report(center, agent.id, '{"findings": "none", "title": "\u202ex"}')
    await add_report(center, agent.id, report_of(3))
    await expect(page.get_by_role("table", name="Reports").get_by_role("link")).to_have_count(2)
    await expect(page.get_by_role("cell", name="1 critical, 1 high, 1 medium")).to_be_visible()
    await picture(page, "reports")
    found = await faults(page, "list")
    await page.get_by_role("link", name="The cache is never cleared").click()
    findings = page.get_by_role("list", name="Findings").get_by_role("listitem")
    await expect(findings).to_have_count(3)
    await expect(findings.first.locator(".numbers")).to_have_text("12\n13")
    await expect(findings.first.locator(".code span[class^=mtk]").first).to_be_visible()
    assert (await findings.first.locator(".code").inner_text()).replace("\xa0", " ").strip() == EXCERPT.strip()
    await page.get_by_role("button", name="Pin", exact=True).click()
    await expect(page.get_by_text("pinned by operator@example.org")).to_be_visible()
    async with page.expect_download() as started:
        await page.get_by_role("button", name="Markdown").click()
    assert (await (await started.value).path()).read_text().startswith("# The cache is never cleared")
    keyword = findings.first.locator(".code").get_by_text("def", exact=True)
    colors = {"dark": "rgb(86, 156, 214)", "light": "rgb(0, 0, 255)"}
    for width, height, theme in ((1440, 900, "dark"), (1024, 768, "light"), (390, 844, "dark")):
        await page.set_viewport_size({"width": width, "height": height})
        await page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        await expect(keyword).to_have_css("color", colors[theme])
        found += await faults(page, f"report {width}")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await picture(page, f"report-{width}-{theme}")
    await page.set_viewport_size({"width": 1280, "height": 800})
    await page.get_by_role("button", name="Source").click()
    await expect(page.locator(".monaco-editor .view-line").nth(1)).to_contain_text("The cache is never cleared")
    await picture(page, "report-source")
    hostile = await add_report(center, agent.id, report_of(1, HOSTILE))
    for report_id in (broken, hostile):
        await page.goto(f"{center.url}/#/reports/{report_id}")
        await expect(page.get_by_role("button", name="Source")).to_be_visible()
        found += await faults(page, f"report {report_id == broken}")
    await expect(findings).to_have_count(1)
    assert await page.locator("article img").count() == 0
    assert await page.locator('article a[href^="javascript" i]').count() == 0
    assert "owned" not in await page.title()
    await page.goto(f"{center.url}/#/reports/{hostile}")
    async with page.expect_download() as started:
        await page.get_by_role("button", name="HTML").click()
    await (await started.value).save_as(tmp_path / "report.html")
    for scripts in (False, True):
        opened = await page.context.browser.new_context(java_script_enabled=scripts)
        exported = await opened.new_page()
        await exported.goto((tmp_path / "report.html").as_uri())
        await expect(exported.get_by_role("heading", level=1)).to_contain_text("<img src=x")
        await expect(exported.get_by_text("Exported by operator@example.org")).to_be_visible()
        assert await exported.locator("img, script, a[href^='javascript' i]").count() == 0
        assert await exported.title() != "owned"
        await picture(exported, f"exported-{scripts}")
        await opened.close()
    await page.goto(f"{center.url}/#/reports/{broken}")
    await expect(page.get_by_role("note")).to_contain_text("does not fit")
    await expect(page.locator(".monaco-editor .view-line").nth(1)).to_contain_text("findings")
    assert found == []


async def test_evidence_opens_in_its_file(center: Api, visit, tmp_path) -> None:
    """At its line, in the agent's working folder, whose other files are beside it. Hostile names and texts stay text.
    On a phone the text has the same colours, without the editor. What the agent does meanwhile reads no file again: an
    agent that is offline would be asked in vain."""
    names = [f"{number:02}.txt" for number in range(3)] + ["<img src=x onerror=alert(1)>\u202e.py"]
    (tmp_path / "src").mkdir()
    for name in names:
        (tmp_path / "src" / name).write_text(HOSTILE)
    lines = [f"# line {number}" for number in range(1, 121)]
    (tmp_path / "src" / "cache.py").write_text("\n".join([*lines[:11], EXCERPT.rstrip(), *lines[13:], HOSTILE]))
    (tmp_path / ".env").write_text("KEY=1")
    async with agent_running(center, tmp_path, "files-1", options=("--files",)) as agent:
        report_id = await add_report(center, agent.id, report_of(1))
        visitor = await visit(center.url)
        page = visitor.page
        await page.add_init_script(path=AXE)
        await visitor.come_back((await center.operator(Role.OPERATOR)).email, path=f"/#/reports/{report_id}")
        visitor.console.expect("403")  # of a file that is not shown
        await page.emulate_media(color_scheme="dark")
        await page.get_by_role("link", name="src/cache.py:12").click()
        await expect(page.locator(".monaco-editor .revealed").first).to_be_visible()
        await expect(page.locator(".monaco-editor").get_by_text("never removed")).to_be_visible()
        await expect(page.locator(".monaco-editor").first).to_have_css("background-color", "rgb(11, 14, 19)")
        listed = page.get_by_role("list", name="Folder").get_by_role("link")
        await expect(listed).to_have_count(6)
        found = await faults(page, "file")
        await picture(page, "file-dark")
        await page.emulate_media(color_scheme="light")
        await expect(page.locator(".monaco-editor").first).to_have_css("background-color", "rgb(255, 255, 255)")
        await picture(page, "file-light")
        await page.get_by_role("link", name="working folder").click()
        await expect(page.get_by_text("1 hidden by the agent's rules")).to_be_visible()
        found += await faults(page, "folder")
        await picture(page, "folder-light")
        await page.goto(f"{center.url}/#/files/files-1/.env")
        await expect(page.get_by_text("By its name, it may hold secrets.")).to_be_visible()
        await page.set_viewport_size({"width": 390, "height": 844})
        await page.goto(f"{center.url}/#/files/files-1/src%2Fcache.py?line=12")
        await expect(page.locator(".code span[class^=mtk]").first).to_be_visible()
        assert await page.locator(".monaco-editor").count() == 0
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found += await faults(page, "file on a phone")
        await picture(page, "file-phone")
        assert "owned" not in await page.title()
    await expect(page.locator(".counts")).to_contain_text("0 of 1 online")
    assert found == [], "\n".join(found)
