"""ACP's requests for permission: what each asks, and the answer in the protocol's words. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from onsembl.agent.drivers.acp import content
from onsembl.agent.drivers.json_lines import Json, as_object, as_objects, as_text, to_json
from onsembl.agent.drivers.request_bodies import permission_body
from onsembl.agent.drivers.tool_uses import files_use, shell_use
from onsembl.protocol.attention_messages import Allow, Decision, PermissionBody
from onsembl.protocol.tool_rules import ToolUse
from onsembl.protocol.turn_events import Diff

PERMISSION = "session/request_permission"
CANCELLED: Json = {"outcome": {"outcome": "cancelled"}}


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
    )


def use_of(call: Json, diffs: Sequence[Diff], folder: str) -> ToolUse:
    """The call, as rules see it: by its kind, for the protocol has no names of tools. A call of which only a title is
    known has no parts, so that only a rule for all of its kind allows it."""
    kind, command = content.tool_kind(call), as_text(as_object(call.get("rawInput")).get("command"))
    if kind == "execute" and command:
        return shell_use([kind], command)
    if kind == "edit" and diffs:
        return files_use([kind], [diff.path for diff in diffs], folder)
    return ToolUse([kind], [as_text(call.get("title"))], [])


def result_of(params: Json, decision: Decision) -> Json:
    """The decision as the CLI takes it: always for once. Without such an option the request is cancelled."""
    wanted = "allow_once" if isinstance(decision, Allow) else "reject_once"
    for option in as_objects(params.get("options")):
        if option.get("kind") == wanted:
            return {"outcome": {"outcome": "selected", "optionId": as_text(option.get("optionId"))}}
    return CANCELLED
