"""Presets over the REST API and the command line: stored, previewed, sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.agents import Operator
from support.api_calls import audit_entries, call_api
from support.command_line import CommandLine
from support.server import Api

from onsembl.protocol.states import Role

pytestmark = pytest.mark.no_worker

UPDATE = {
    "description": "Bring a package up to date",
    "template": "Update {{package}}{{#version}} to {{version}}{{/version}}.",
    "variables": [{"name": "package", "required": True}, {"name": "version"}],
    "priority": 3,
}


@pytest.fixture
async def operator(api: Api) -> Operator:
    return Operator(api, await api.operator(Role.OPERATOR))


async def test_presets_are_kept_changed_and_removed(api, operator):
    """An operator creates, changes and deletes presets; shipped presets, viewers and outdated revisions are
    rejected."""
    names = [preset["name"] for preset in (await call_api(operator, "GET", "/v1/presets"))["presets"]]
    assert names == ["Investigate", "Review", "Plan", "Synthesize"]
    made = await call_api(operator, "PUT", "/v1/presets/update", {**UPDATE, "revision": 0})
    assert (made["revision"], made["shipped"], made["updated_by_name"]) == (1, False, "operator@example.org")
    await call_api(operator, "PUT", "/v1/presets/UPDATE", {**UPDATE, "revision": 0}, 409)
    changed = await call_api(operator, "PUT", "/v1/presets/update", {**UPDATE, "priority": 4, "revision": 1})
    assert (await call_api(operator, "GET", "/v1/presets/Update")) == changed
    await call_api(operator, "PUT", "/v1/presets/update", {**UPDATE, "revision": 1}, 409)
    for method, body in (("PUT", UPDATE), ("DELETE", None)):
        await call_api(operator, method, "/v1/presets/review", body, 409)
    for name, body in (
        ("bad name", UPDATE),
        ("bad", {"template": "{{nothing}}"}),
        ("bad", {**UPDATE, "variables": [{"name": "package", "type": "number"}]}),
        ("bad", {**UPDATE, "kind": "cobol"}),
    ):
        await call_api(operator, "PUT", f"/v1/presets/{name}", body, 422)
    viewer = Operator(api, await api.operator(Role.VIEWER))
    await call_api(viewer, "PUT", "/v1/presets/other", UPDATE, 403)
    await call_api(viewer, "DELETE", "/v1/presets/update", None, 403)
    assert (await call_api(viewer, "GET", "/v1/presets/update"))["priority"] == 4
    await call_api(operator, "DELETE", "/v1/presets/update")
    await call_api(operator, "GET", "/v1/presets/update", None, 404)
    await call_api(operator, "PUT", "/v1/presets/update", {**UPDATE, "revision": 1}, 409)
    [(_, first), (_, second), (_, gone)] = await audit_entries(api, "preset.%")
    assert first["template"] == [None, UPDATE["template"]]
    assert second == {"priority": [3, 4]}
    assert gone["template"] == UPDATE["template"]


async def test_a_preset_is_renamed_and_what_names_it_follows(api, operator):
    """A renamed preset keeps its content and its schedules; the name of another or a shipped preset is rejected."""
    await api.enrol("one")
    for name in ("update", "other"):
        await call_api(operator, "PUT", f"/v1/presets/{name}", UPDATE)
    schedule = {"name": "weekly", "target": {"all": True}, "preset": "Update", "cron": "0 6 * * 1"}
    made = await call_api(operator, "POST", "/v1/schedules", {**schedule, "values": {"package": "httpx"}}, 201)
    for old, new, status in (
        ("update", "OTHER", 409),
        ("update", "review", 409),
        ("review", "mine", 409),
        ("none", "mine", 404),
        ("update", "two words", 422),
    ):
        await call_api(operator, "PUT", f"/v1/presets/{old}", {**UPDATE, "name": new}, status)
    renamed = await call_api(operator, "PUT", "/v1/presets/update", {**UPDATE, "name": "upgrade", "revision": 1})
    assert (renamed["name"], renamed["revision"], renamed["template"]) == ("upgrade", 2, UPDATE["template"])
    await call_api(operator, "GET", "/v1/presets/update", None, 404)
    fired = await call_api(operator, "POST", f"/v1/schedules/{made['id']}/run", {})
    assert (fired["preset"], fired["last"]["error"]) == ("upgrade", None)
    assert (await audit_entries(api, "preset.%"))[-1] == (
        "preset.saved",
        {"name": ["update", "upgrade"], "schedules": 1},
    )


async def test_a_preset_is_tried_out(operator):
    """A preview returns the text, or names each invalid value or the error in the template."""
    preset = {"name": "update", **UPDATE}
    path = "/v1/presets/preview"
    tried = await call_api(operator, "POST", path, {"preset": preset, "values": {"package": "httpx"}})
    assert tried == {"text": "Update httpx.", "problem": None, "fields": {}}
    tried = await call_api(operator, "POST", path, {"preset": preset, "values": {"version": 2}})
    assert tried == {"text": None, "problem": None, "fields": {"package": "is required", "version": "has to be a text"}}
    tried = await call_api(operator, "POST", path, {"preset": {**preset, "template": "{{x}}"}})
    assert tried["problem"] == "The template names unknown variables: x."


async def test_a_command_is_made_of_a_preset(api, operator):
    """A command from a preset has the rendered text, the preset's name and its priority, unless the request sets one;
    invalid values are named."""
    one, claude = await api.enrol("one"), await api.enrol("two", "claude")
    await call_api(operator, "PUT", "/v1/presets/update", UPDATE)
    await call_api(operator, "PUT", "/v1/presets/for-claude", {"template": "hello", "kind": "claude"})
    path = f"/v1/agents/{one.id}/commands"
    wanted = {"preset": "UPDATE", "values": {"package": "httpx"}}
    made = await call_api(operator, "POST", path, wanted, 201)
    assert (made["text"], made["preset"], made["priority"]) == ("Update httpx.", "update", 3)
    assert (await call_api(operator, "POST", path, {**wanted, "priority": 1}, 201))["priority"] == 1
    shipped = await call_api(
        operator, "POST", f"/v1/agents/{claude.id}/commands", {"preset": "review", "values": {}}, 201
    )
    assert shipped["preset"] == "Review" and "correctness" in shipped["text"] and shipped["priority"] == 5
    refused = await call_api(operator, "POST", path, {"preset": "update", "values": {"pakage": "x"}}, 422)
    assert refused["type"] == "urn:onsembl:problem:wording"
    assert refused["fields"] == {"package": "is required", "pakage": "there is no such variable"}
    for body in ({}, {"text": "x", **wanted}, {"text": "x", "values": {"a": 1}}, {"preset": "none"}):
        await call_api(operator, "POST", path, body, 422)
    for body in ({"preset": "for-claude"}, {"preset": "review", "values": {}}):
        refused = await call_api(operator, "POST", path, body, 422)
        assert refused["type"] == "urn:onsembl:problem:preset-kind"
        assert "claude" in refused["kinds"] and "shell" not in refused["kinds"]
        for target in ({"all": True}, {"agents": ["one", "two"]}):
            refused = await call_api(operator, "POST", "/v1/groups", {**body, "target": target}, 422)
            assert refused["type"] == "urn:onsembl:problem:preset-kind"
        schedule = {"name": "daily", "cron": "0 6 * * *", "time_zone": "UTC", "target": {"all": True}, **body}
        refused = await call_api(operator, "POST", "/v1/schedules", schedule, 422)
        assert refused["type"] == "urn:onsembl:problem:preset-kind"
    await call_api(operator, "POST", f"/v1/agents/{claude.id}/commands", {"preset": "for-claude"}, 201)
    group = await call_api(operator, "POST", "/v1/groups", {**wanted, "target": {"all": True}}, 201)
    assert group["preset"] == "update" and {command["preset"] for command in group["commands"]} == {"update"}
    assert len((await call_api(operator, "GET", "/v1/commands"))["commands"]) == 6
    requested = [detail.get("preset") for _, detail in await audit_entries(api, "command.requested")]
    assert requested == ["update", "update", "Review", "for-claude", "update", "update"]


async def test_presets_from_the_command_line(api: Api, tmp_path: Path):
    """`onsembl presets` copies, changes by a file, shows, sends with values, and deletes."""
    run = CommandLine(api, await api.operator(Role.OPERATOR), tmp_path).run
    await api.enrol("builder")
    out, _ = await run("presets", "list")
    assert [line.split()[0] for line in out.splitlines()] == ["Investigate", "Review", "Plan", "Synthesize"]
    await run("presets", "copy", "review", "my-review")
    shown = json.loads((await run("presets", "show", "my-review", "--json"))[0])
    await run("presets", "save", "my-review", "-", stdin=json.dumps({**shown, "priority": 2}).encode())
    toml = tmp_path / "update.toml"
    toml.write_text(
        'template = "Update {{package}}: {{notes}}"\n[[variables]]\nname = "package"\nrequired = true\n'
        '[[variables]]\nname = "notes"\ntype = "long_text"\n[[variables]]\nname = "n"\ntype = "integer"\n'
    )
    await run("presets", "save", "update", str(toml))
    out, _ = await run("presets", "show", "update")
    assert "package          text (required)" in out and "Update {{package}}" in out
    notes = tmp_path / "notes.txt"
    notes.write_text("two\nlines")
    sent = json.loads(
        (
            await run(
                *("send", "--agent", "builder", "--preset", "update", "--set", "package=httpx"),
                *("--set", f"notes=@{notes}", "--json"),
            )
        )[0]
    )
    assert [(row["text"], row["preset"]) for row in sent] == [("Update httpx: two\nlines", "update")]
    _, err = await run("send", "--all", "--preset", "update", code=1)
    assert "package: is required" in err
    _, err = await run("send", "--all", "--preset", "update", "--set", "n=many", code=2)
    assert "has to be a whole number" in err
    _, err = await run("send", "--all", "--preset", "update", "--set", "other=1", code=2)
    assert "package, notes, n" in err
    await run("send", "--all", "--preset", "update", "a text", code=2)
    await run("presets", "rename", "my-review", "our-review")
    assert json.loads((await run("presets", "show", "our-review", "--json"))[0])["priority"] == 2
    await run("presets", "rename", "our-review", "plan", code=1)
    await run("presets", "delete", "our-review")
    _, err = await run("presets", "delete", "review", code=1)
    assert "A built-in preset cannot be" in err
