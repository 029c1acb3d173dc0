"""Codex's requests for a person: what each asks, and the answer in its words. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from onsembl.agent.drivers.codex import amendments, items
from onsembl.agent.drivers.json_lines import Json, as_object, as_objects, as_text, to_json
from onsembl.agent.drivers.request_bodies import form_answer, form_body, form_title, permission_body
from onsembl.agent.drivers.step_recorder import short
from onsembl.agent.drivers.tool_uses import files_use, shell_use, text_use
from onsembl.protocol.attention_messages import (
    MAX_OPTIONS,
    MAX_QUESTIONS,
    Allow,
    Answers,
    Decision,
    FormBody,
    Question,
    QuestionBody,
    QuestionOption,
    RequestBody,
)
from onsembl.protocol.tool_rules import ToolUse
from onsembl.protocol.turn_events import ToolCall

COMMAND = "item/commandExecution/requestApproval"
EDIT = "item/fileChange/requestApproval"
PERMISSIONS = "item/permissions/requestApproval"
QUESTION = "item/tool/requestUserInput"
FORM = "mcpServer/elicitation/request"
METHODS = (COMMAND, EDIT, PERMISSIONS, QUESTION, FORM)
NETWORK = "shell_network"
"""The name of a command's connection to a host, as rules have it."""


def _asked_call(params: Json) -> Json:
    """The call of an MCP server's tool for which Codex asks by a form without fields; empty for other requests."""
    call = as_object(params.get("_meta"))
    return call if call.get("codex_approval_kind") == "mcp_tool_call" else {}


def tool_name(method: str, params: Json) -> str:
    """The name of the tool that a request is about."""
    if call := _asked_call(params):
        return f"{as_text(params.get('serverName'))}.{as_text(call.get('tool_name'))}"
    return {COMMAND: "shell", EDIT: "edit", PERMISSIONS: "permissions"}.get(method, method.split("/")[-1])


def body_of(
    method: str, params: Json, call: ToolCall | None, paths: Sequence[str], folder: str, home: str
) -> RequestBody | None:
    """What a request asks; None when it cannot be shown. `call` is its tool call and `paths` the files that it changes,
    as far as they are known; `home` is Codex's home folder, or empty."""
    reason = as_text(params.get("reason"))
    match method:
        case "item/commandExecution/requestApproval":
            command = items.title(params)
            network = as_object(params.get("networkApprovalContext"))
            told = {name: params[name] for name in ("command", "cwd", "networkApprovalContext") if params.get(name)}
            return permission_body(
                "shell",
                "execute",
                text_use([NETWORK], to_json(network)) if network else _use(command),
                input=to_json(told),
                folder=as_text(params.get("cwd")) or folder,
                cli_rules=amendments.offered(params, home),
                reason=reason,
                reason_way="steered",
            )
        case "item/fileChange/requestApproval" if call is not None and paths:
            root = as_text(params.get("grantRoot"))
            return permission_body(
                "edit",
                "edit",
                files_use(["edit"], paths, folder),
                input=to_json({"paths": [*paths], **({"grant_root": root} if root else {})}),
                folder=folder,
                diffs=call.diffs,
                reason=f"{reason} For all files in {root}.".strip() if root else reason,
                reason_way="steered",
            )
        case "item/permissions/requestApproval":
            asked = to_json(as_object(params.get("permissions")))
            use = text_use(["permissions"], asked)
            return permission_body(
                "permissions", "other", use, input=asked, folder=folder, reason=reason, reason_way="steered"
            )
        case "item/tool/requestUserInput":
            return _questions(as_objects(params.get("questions")))
        case "mcpServer/elicitation/request" if asked_call := _asked_call(params):
            arguments, name = to_json(as_object(asked_call.get("tool_params"))), tool_name(method, params)
            use = text_use([name, "other"], arguments)
            reason = as_text(asked_call.get("tool_description"))
            return permission_body(
                name, "other", use, input=arguments, folder=folder, reason=reason, reason_way="steered"
            )
        case "mcpServer/elicitation/request":
            server, message = as_text(params.get("serverName")), as_text(params.get("message"))
            return form_body(server, message, params.get("mode"), params.get("requestedSchema"), "steered")
        case _:
            return None


def _use(command: str) -> ToolUse:
    """A command line, as rules see it. Codex tells it in quotes: one that has quotes of its own has no parts."""
    use = shell_use(["shell", "execute"], command)
    return ToolUse(use.names, use.said, []) if "\\" in command else use


def use_of(call: ToolCall, paths: Sequence[str], folder: str) -> ToolUse:
    """A tool call of Codex, as rules see it."""
    if call.kind == "execute":
        return _use(call.title)
    if call.kind == "edit" and paths:
        return files_use(["edit"], paths, folder)
    return text_use([call.name, call.kind], call.title if call.kind != "other" else call.arguments)


def stays_in(folder: str, paths: Sequence[str]) -> bool:
    """Whether a change of these files, of which there are some, is within the folder."""
    inside = [PurePosixPath(path) for path in paths]
    return bool(paths) and all(PurePosixPath(folder) in path.parents and ".." not in path.parts for path in inside)


def title_of(body: RequestBody, method: str, params: Json, title: str) -> str:
    """The request in one line; `title` is the call's main argument."""
    match body:
        case QuestionBody():
            return body.questions[0].text
        case FormBody():
            return form_title(body)
        case _ if network := as_object(params.get("networkApprovalContext")):  # no command is told with it
            return f"{NETWORK} {as_text(network.get('protocol'))} {as_text(network.get('host'))}"
        case _:
            return f"{tool_name(method, params)} {title}".rstrip()


def _questions(told: list[Json]) -> QuestionBody | None:
    if not 0 < len(told) <= MAX_QUESTIONS or len({as_text(question.get("id")) for question in told}) < len(told):
        return None
    questions: list[Question] = []
    for question in told:
        options = as_objects(question.get("options"))
        if len(options) > MAX_OPTIONS:
            return None
        questions.append(
            Question(
                id=as_text(question.get("id")),
                text=as_text(question.get("question")),
                header=short(as_text(question.get("header"))),
                options=[
                    QuestionOption(label=as_text(option.get("label")), description=as_text(option.get("description")))
                    for option in options
                ],
                free_text=question.get("isOther") is True or not options,
                secret=question.get("isSecret") is True,
            )
        )
    return QuestionBody(questions=questions, reason_way="steered")


def result_of(method: str, params: Json, decision: Decision | None) -> Json:
    """The decision as Codex takes it, for once unless it has Codex keep a rule; None when the turn is over before there
    was one."""
    if isinstance(decision, Allow) and decision.cli_rule is not None:
        return {"decision": amendments.decision_for(params, decision.cli_rule)}
    match method:
        case "item/commandExecution/requestApproval" | "item/fileChange/requestApproval":
            if decision is None:
                return {"decision": "cancel"}
            return {"decision": "accept" if isinstance(decision, Allow) else "decline"}
        case "item/permissions/requestApproval":
            allowed = isinstance(decision, Allow)
            return {"permissions": as_object(params.get("permissions")) if allowed else {}, "scope": "turn"}
        case "item/tool/requestUserInput":
            given = decision.answers if isinstance(decision, Answers) else []
            return {"answers": {answer.id: {"answers": answer.answers} for answer in given}}
        case _ if _asked_call(params) and isinstance(decision, Allow):
            return {"action": "accept", "content": {}}
        case _:
            return form_answer(decision)
