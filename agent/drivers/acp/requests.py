"""ACP's requests for permission and for forms: what each asks, and the answer in the protocol's words. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from onsembl.agent.drivers.acp import content
from onsembl.agent.drivers.json_lines import Json, as_object, as_objects, as_text, to_json
from onsembl.agent.drivers.request_bodies import form_answer, form_body, permission_body
from onsembl.agent.drivers.tool_uses import files_use, shell_use
from onsembl.protocol.attention_messages import Allow, Decision, FormBody, PermissionBody
from onsembl.protocol.tool_rules import ToolUse
from onsembl.protocol.turn_events import Diff

PERMISSION, FORM = "session/request_permission", "elicitation/create"
CANCELLED: Json = {"outcome": {"outcome": "cancelled"}}
CAPABILITIES: Json = {
    "fs": {"readTextFile": False, "writeTextFile": False},
    "terminal": False,
    "elicitation": {"form": {}},
}
"""Those of this client."""


def body_of(call: Json, diffs: Sequence[Diff], folder: str) -> PermissionBody:
    """What a request asks about this call."""
    kind, arguments = content.tool_kind(call), as_object(call.get("rawInput"))
    title = content.title(call)
    told, _ = content.result(call)
    return permission_body(
        as_text(call.get("name")) or kind,
        kind,
        use_of(call, diffs, folder),
        input=to_json(arguments or {"title": title}),
        folder=as_text(arguments.get("cwd")) or folder,
        diffs=diffs,
        reason=told,
        reason_way="next_command",
    )


def form_of(params: Json) -> FormBody | None:
    """What a request for a form asks; None for an address that is to be opened. The protocol does not name the MCP
    server, if it is one that asks."""
    message, schema = as_text(params.get("message")), params.get("requestedSchema")
    return form_body("", message, params.get("mode"), schema, "next_command")


def use_of(call: Json, diffs: Sequence[Diff], folder: str) -> ToolUse:
    """The call, as rules see it: by its kind, for the protocol has no names of tools. A call of which only a title is
    known has no parts, so that only a rule for all of its kind allows it."""
    kind, command = content.tool_kind(call), as_text(as_object(call.get("rawInput")).get("command"))
    if kind == "execute" and command:
        return shell_use([kind], command)
    if kind == "edit" and diffs:
        return files_use([kind], [diff.path for diff in diffs], folder)
    return ToolUse([kind], [as_text(call.get("title"))], [])


def result_of(method: str, params: Json, decision: Decision | None) -> Json:
    """The decision as the CLI takes it: always for once; None when the turn is over before there was one. Without such
    an option the request is cancelled."""
    if method == FORM:
        return form_answer(decision)
    if decision is None:
        return CANCELLED
    wanted = "allow_once" if isinstance(decision, Allow) else "reject_once"
    for option in as_objects(params.get("options")):
        if option.get("kind") == wanted:
            return {"outcome": {"outcome": "selected", "optionId": as_text(option.get("optionId"))}}
    return CANCELLED
