"""The types of the installed Codex, which it generates itself, compared with what the translator writes and reads."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import jsonschema
import pytest
from agent.test_codex_translator import RECORDINGS, Server, translator
from clis.programs import CODEX

from onsembl.agent.drivers.codex import items, requests, steers
from onsembl.agent.drivers.codex import translator as module
from onsembl.agent.drivers.codex.permissions import STARTS
from onsembl.protocol.attention_messages import Allow, Answers, Deny, FilledForm, QuestionAnswer

pytestmark = pytest.mark.clis

RESPONSES = {
    requests.COMMAND: "CommandExecutionRequestApprovalResponse",
    requests.EDIT: "FileChangeRequestApprovalResponse",
    requests.PERMISSIONS: "PermissionsRequestApprovalResponse",
    requests.QUESTION: "ToolRequestUserInputResponse",
    requests.FORM: "McpServerElicitationRequestResponse",
}
METHOD = re.compile(
    r'"((?:item|turn|thread|account|model|mcpServer|serverRequest|hook|skills|remoteControl)/[A-Za-z/]+)"'
)


class Types:
    """The schemas that a version of Codex has generated into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> dict[str, Any]:
        return json.loads((self._folder / f"{name}.json").read_text())

    def methods(self, name: str) -> dict[str, dict[str, Any]]:
        """The messages of a direction by their methods, each as a schema of its own."""
        schema = self.read(name)
        found: dict[str, dict[str, Any]] = {}
        for message in schema["oneOf"]:
            (method,) = message["properties"]["method"]["enum"]
            found[method] = {**message, "definitions": schema.get("definitions", {})}
        return found


@pytest.fixture(scope="session")
def types(pinned: Path, tmp_path_factory: pytest.TempPathFactory) -> Types:
    folder = tmp_path_factory.mktemp("types")
    (program,) = pinned.glob(CODEX.program)
    command = [str(program), "app-server", "generate-json-schema", "--experimental", "--out", str(folder)]
    subprocess.run(command, check=True, capture_output=True, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"})
    return Types(folder)


def written() -> list[dict[str, Any]]:
    """Each kind of request and notification that the translator writes, with each value of its settings."""
    sent: list[dict[str, Any]] = []
    for mode in STARTS:
        begun = Server(translator(mode=mode, images=["/a.png"], schema={"type": "object"})).open()
        begun.run.steer(uuid4(), "and this")
        begun.run.interrupt()
        begun.read()
        begun.complete("interrupted")
        sent += begun.sent
    for known in ({"known": "t1"}, {"fork_of": "t1"}):
        other = Server(translator(**known))
        other.answer("initialize", {})
        sent += other.sent
    return sent


def test_what_is_written_is_of_the_types(types):
    """Each message fits, and each of its parameters is known: an unknown one would be passed over."""
    known = {**types.methods("ClientRequest"), **types.methods("ClientNotification")}
    seen: set[str] = set()
    for message in written():
        schema = known[message["method"]]
        seen.add(message["method"])
        jsonschema.validate(message, schema)
        if "params" in message:
            name = schema["properties"]["params"]["$ref"].rpartition("/")[2]
            assert message["params"].keys() <= schema["definitions"][name]["properties"].keys(), message
    source = set(METHOD.findall(inspect.getsource(module) + inspect.getsource(steers)))
    assert seen == {"initialize", "initialized"} | (source & known.keys())


def test_answers_are_of_the_types(types):
    """To each request that Codex can ask, each decision; and it knows each of these requests."""
    assert types.methods("ServerRequest").keys() >= set(requests.METHODS)
    answers = Answers(answers=[QuestionAnswer(id="q", answers=["x"])])
    for method in requests.METHODS:
        schema = types.read(RESPONSES[method])
        for decision in (Allow(), Deny(reason="no"), answers, FilledForm(content="{}"), None):
            jsonschema.validate(requests.result_of(method, {"permissions": {}}, decision), schema)


def test_what_is_read_is_of_the_types(types):
    """Each notification and each item that the translator knows is one of this version's."""
    told = types.methods("ServerNotification")
    ours = set(METHOD.findall(inspect.getsource(module))) - types.methods("ClientRequest").keys()
    assert ours - told.keys() - set(requests.METHODS) == set()
    definitions = types.read("ServerNotification")["definitions"]
    kinds = {kind["properties"]["type"]["enum"][0]: kind["properties"] for kind in definitions["ThreadItem"]["oneOf"]}
    assert kinds.keys() >= {*items._TOOLS, "userMessage", "agentMessage", "plan", "reasoning", "contextCompaction"}
    read = {
        "commandExecution": {"command", "cwd", "aggregatedOutput", "exitCode", "status"},
        "fileChange": {"changes", "status"},
        "mcpToolCall": {"server", "tool", "arguments", "result", "error", "status"},
        "collabAgentToolCall": {"tool", "prompt", "receiverThreadIds", "agentsStates", "status"},
        "reasoning": {"summary"},
        "agentMessage": {"text"},
    }
    assert [name for name, fields in read.items() if fields - kinds[name].keys()] == []
    usage = definitions["TokenUsageBreakdown"]["properties"].keys()
    assert usage >= {"inputTokens", "outputTokens", "cachedInputTokens", "cacheWriteInputTokens", "totalTokens"}


def test_the_recordings_are_of_the_types(types):
    """What the tests of the translator play is what this version says: a message of each method and kind of item."""
    told = {**types.methods("ServerNotification"), **types.methods("ServerRequest")}
    seen: set[tuple[str, str]] = set()
    for path in RECORDINGS.glob("codex-*.jsonl"):
        for line in path.read_text().splitlines():
            message = json.loads(line)
            if message["dir"] == "out" and "method" in message["msg"]:
                method, item = (
                    message["msg"]["method"],
                    message["msg"].get("params", {}).get("item", {}).get("type", ""),
                )
                if (method, item) not in seen:
                    seen.add((method, item))
                    jsonschema.Draft7Validator(told[method]).validate(message["msg"])
    assert len(seen) > 20
