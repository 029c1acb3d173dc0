"""The published schema of ACP, which comes with the adapter, compared with what the translator writes and reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from agent.test_acp_translator import ANY, FORKS, INITIALIZED, RECORDINGS, SESSION, Client, translator

from onsembl.agent.drivers.acp import content, requests
from onsembl.agent.drivers.acp import translator as module
from onsembl.agent.drivers.acp.clis import GEMINI, KNOWN
from onsembl.protocol.attention_messages import Allow, Deny, FilledForm
from onsembl.protocol.permissions import PERMISSION_MODES

pytestmark = pytest.mark.clis

SERVER = {"name": "onsembl", "command": "onsembl", "args": [], "env": [{"name": "A", "value": "b"}]}
REQUEST = {"options": [{"optionId": "a", "kind": "allow_once"}, {"optionId": "b", "kind": "reject_once"}]}

ANNOUNCED = {"notice", "compaction_update", "compaction_summary_chunk"}
"""Updates that a CLI sends only to a client that announces them, which the agent does not."""


class Schema:
    """The types of a version of the protocol."""

    def __init__(self, path: Path) -> None:
        self._definitions: dict[str, Any] = json.loads(path.read_text())["$defs"]
        self._validators: dict[str, jsonschema.Draft202012Validator] = {}

    def validate(self, value: object, name: str) -> None:
        """Raises jsonschema.ValidationError if the value is not of the type."""
        if name not in self._validators:
            schema = {**self._definitions[name], "$defs": self._definitions}
            self._validators[name] = jsonschema.Draft202012Validator(schema)
        self._validators[name].validate(value)

    def constants(self, name: str) -> set[str]:
        """The values of a type that has a list of them."""
        return {value["const"] for value in self._definitions[name]["oneOf"]}

    def kinds_of_updates(self) -> set[str]:
        return {kind["properties"]["sessionUpdate"]["const"] for kind in self._definitions["SessionUpdate"]["oneOf"]}

    def sent_to(self, side: str) -> dict[str, str]:
        """The types of requests and notifications to a side, by their method."""
        return {
            told["x-method"]: name
            for name, told in self._definitions.items()
            if told.get("x-side") == side and name.endswith(("Request", "Notification"))
        }


@pytest.fixture(scope="session")
def schemas(pinned: Path) -> dict[str, Schema]:
    """The stable and the unstable types of version 1."""
    folder = pinned / "@agentclientprotocol" / "sdk" / "schema" / "v1"
    return {"stable": Schema(folder / "schema.json"), "unstable": Schema(folder / "schema.unstable.json")}


def written() -> Iterator[dict[str, Any]]:
    """Each kind of request and notification that the translator writes to each known CLI."""
    for cli in (GEMINI, ANY, *KNOWN.values()):
        for mode in PERMISSION_MODES:
            client = Client(translator(cli=cli, mode=mode, has_key=True, images=[("image/png", "AA==")]))
            methods = [{"id": cli.key_method[0]}] if cli.key_method is not None else []
            images = {"agentCapabilities": {"promptCapabilities": {"image": True}}}
            answers = {"initialize": INITIALIZED | images | {"authMethods": methods}, "session/new": SESSION}
            while (method := client.sent[-1]["method"]) != "session/prompt" and not client.run.input_complete:
                client.answer(method, answers.get(method, {}))
            client.run.interrupt()
            client.read()
            yield from client.sent
        for known, opens in (({"known": "s1"}, INITIALIZED), ({"known": "s1"}, FORKS), ({"fork_of": "s1"}, FORKS)):
            client = Client(translator(cli=cli, mcp_servers=[SERVER], **known))
            client.answer("initialize", opens)
            yield from client.sent


def test_what_is_written_is_of_the_schema(schemas):
    """Each message fits; only a fork is not in the stable protocol, and is sent where the CLI announces it."""
    stable, unstable = schemas["stable"], schemas["unstable"]
    seen: set[str] = set()
    for message in written():
        method = message["method"]
        seen.add(method)
        schema = stable if method in stable.sent_to("agent") else unstable
        schema.validate(message["params"], schema.sent_to("agent")[method])
    assert seen - stable.sent_to("agent").keys() == {"session/fork"}
    opening = {"initialize", "authenticate", "session/new", "session/load", "session/resume", "session/fork"}
    assert seen == opening | {"session/set_mode", "session/set_config_option", "session/prompt", "session/cancel"}


def test_answers_are_of_the_schema(schemas):
    """To a request for permission, also without an option for the decision, and to a form: with each decision."""
    for decision in (Allow(), Deny(), None):
        for params in (REQUEST, {"options": []}):
            answer = requests.result_of(requests.PERMISSION, params, decision)
            schemas["stable"].validate(answer, "RequestPermissionResponse")
    for decision in (FilledForm(content='{"a":1,"b":["c"]}'), Deny(), Deny(cancel=True), None):
        schemas["stable"].validate(requests.result_of(requests.FORM, {}, decision), "CreateElicitationResponse")


def test_what_is_read_is_of_the_schema(schemas):
    """Each kind of update and of tool, each status and each reason of an end that the translator knows."""
    stable = schemas["stable"]
    known = {*module._OF_A_TURN, *module._SILENT, "current_mode_update", "usage_update"}
    assert known | ANNOUNCED == stable.kinds_of_updates()
    assert stable.constants("ToolKind") - content._KINDS.keys() == {"switch_mode", "other"}
    assert stable.constants("PlanEntryStatus") == {*content._PLAN_STATUS, "pending"}
    assert stable.constants("StopReason") == {*module._STOPPED, "end_turn", "cancelled"}
    assert {requests.PERMISSION, requests.FORM} <= stable.sent_to("client").keys()


def test_the_recordings_are_of_the_schema(schemas):
    """What the tests of the translator play is what the protocol says: an update of each kind, and the requests."""
    types = schemas["stable"].sent_to("client")
    seen: set[tuple[str, str]] = set()
    for path in [*RECORDINGS.glob("acp-*.jsonl"), *RECORDINGS.glob("gemini-*.jsonl")]:
        for line in map(json.loads, path.read_text().splitlines()):
            message = line["msg"] if line["dir"] == "out" else {}
            if (method := message.get("method")) in types:
                seen.add((method, message["params"].get("update", {}).get("sessionUpdate", "")))
                schemas["stable"].validate(message["params"], types[method])
    assert len(seen) > 8
