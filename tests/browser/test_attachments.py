"""Files of a prompt on the page: chosen, pasted, dropped, removed, and sent."""

from __future__ import annotations

from support.expecting import expect
from support.server import Api

from onsembl.protocol.states import Role

GIVE = """(field, [event, name, type, content]) => {
    const files = new DataTransfer();
    files.items.add(new File([new Uint8Array(content)], name, { type }));
    const given = event === "paste"
        ? new ClipboardEvent(event, { clipboardData: files, bubbles: true, cancelable: true })
        : new DragEvent(event, { dataTransfer: files, bubbles: true, cancelable: true });
    field.dispatchEvent(given);
    return given.defaultPrevented;
}"""
PNG = list(b"\x89PNG\r\n\x1a\n1234")


async def test_files_are_attached_to_a_prompt(center: Api, visit) -> None:
    """They are listed, one can be removed, and the command has the others; too much is refused in words."""
    await center.enrol("away", "claude")
    account = await center.operator(Role.OPERATOR)
    visitor = await visit(center.url)
    await visitor.come_back(account.email)
    page = visitor.page
    field = page.get_by_role("textbox", name="Command for away")
    assert await field.evaluate(GIVE, ["paste", "image.png", "image/png", PNG])
    attached = page.get_by_role("list", name="Attached files").get_by_role("listitem")
    await expect(attached).to_have_count(1)
    assert await field.evaluate(GIVE, ["drop", "dropped.log", "text/plain", [65]])
    await expect(attached).to_have_count(2)
    chosen = [{"name": name, "mimeType": "text/plain", "buffer": b"x"} for name in ("chosen.txt", "wrong.txt")]
    await page.get_by_label("Files", exact=True).set_input_files(chosen)
    await expect(attached).to_have_count(4)
    await page.get_by_role("button", name="Remove wrong.txt").click()
    await expect(attached).to_have_count(3)
    await field.evaluate(GIVE, ["drop", "empty.txt", "text/plain", []])
    await expect(page.get_by_role("alert")).to_contain_text("empty.txt is empty")
    await visitor.send("look at these")
    await expect(attached).to_have_count(0)
    await expect(page.locator("li[data-command]")).to_have_count(1)
    [command] = (await center.http.get("/v1/commands", headers=account.headers)).json()["commands"]
    assert [(file["name"], file["media_type"]) for file in command["turn"]["attachments"]] == [
        ("image.png", "image/png"),
        ("dropped.log", "application/octet-stream"),
        ("chosen.txt", "application/octet-stream"),
    ]
