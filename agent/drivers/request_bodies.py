"""Makes the body of a request for permission, for every coding CLI alike. No I/O."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import msgspec

from onsembl.agent.drivers.json_lines import Json, as_object, to_json
from onsembl.agent.drivers.offered_rules import offered_rules
from onsembl.agent.drivers.step_recorder import short
from onsembl.agent.rendering.text import printable
from onsembl.protocol.attention_messages import (
    CliRule,
    Decision,
    Deny,
    FilledForm,
    FormBody,
    PermissionBody,
    ReasonWay,
)
from onsembl.protocol.tool_rules import ToolUse
from onsembl.protocol.turn_events import Diff, ToolKind

MAX_COMPARED = 64 * 1024
"""A longer text, in characters, is not compared line by line."""
DENIED = "The operator denied this."
UNANSWERED = "The operator did not answer."


def permission_body(
    tool: str,
    kind: ToolKind,
    use: ToolUse,
    *,
    input: str,
    folder: str,
    diffs: Sequence[Diff] = (),
    reason: str = "",
    cli_rules: Sequence[CliRule] = (),
    editable: bool = False,
    reason_way: ReasonWay = "told",
) -> PermissionBody:
    """The body for a call; `input` is all of its arguments as JSON, and `reason` why the CLI asks, if it says it."""
    return PermissionBody(
        tool=short(tool),
        tool_kind=kind,
        folder=folder,
        input=input,
        diff="".join(unified(diff) for diff in diffs).replace("\0", "␀"),
        reason=printable(reason)[:1024],
        names=[*use.names],
        said=[*use.said],
        parts=[[*forms] for forms in use.parts],
        rules=offered_rules(use, folder),
        cli_rules=[*cli_rules],
        editable=editable,
        reason_way=reason_way,
    )


def form_body(server: str, message: str, mode: object, schema: object, reason_way: ReasonWay) -> FormBody | None:
    """The body for a form of MCP's elicitation; None in another mode, as that of an address that is to be opened."""
    if mode not in (None, "form"):
        return None
    text = printable(message)[:1024]
    return FormBody(server=short(server), message=text, schema=to_json(as_object(schema)), reason_way=reason_way)


def form_title(body: FormBody) -> str:
    """The form in one line."""
    message = body.message.strip().partition("\n")[0]
    return f"{body.server}: {message}" if body.server else message or "A form"


def form_answer(decision: Decision | None) -> Json:
    """The decision on a form in the words of MCP; None when the turn is over before there was one."""
    match decision:
        case FilledForm():
            return {"action": "accept", "content": as_object(msgspec.json.decode(decision.content))}
        case Deny(cancel=False):
            return {"action": "decline"}
        case _:
            return {"action": "cancel"}


def unified(diff: Diff) -> str:
    """A change of a file as a unified diff, whole. Without the old text, or for a long one, all of it is replaced."""
    old, new = (diff.old or "").splitlines(), diff.new.splitlines()
    before = "/dev/null" if diff.old is None else diff.path
    if len(diff.old or "") + len(diff.new) > MAX_COMPARED:
        heads = [f"--- {before}", f"+++ {diff.path}", f"@@ -1,{len(old)} +1,{len(new)} @@"]
        lines = [*heads, *(f"-{line}" for line in old), *(f"+{line}" for line in new)]
    else:
        lines = list(difflib.unified_diff(old, new, before, diff.path, lineterm=""))
    return "".join(f"{line}\n" for line in lines)
