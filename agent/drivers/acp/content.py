"""Reads the content of ACP's messages and tool calls: texts, images, changes of files, plans."""

from __future__ import annotations

import difflib
from pathlib import PurePath

from onsembl.agent.drivers.json_lines import Json, as_count, as_object, as_objects, as_text
from onsembl.protocol.turn_events import Diff, PlanEntry, PlanStatus, ToolKind
from onsembl.protocol.usage import NOTHING, Usage, add_counts, usage_of

Counts = tuple[int, int, int, int]
MAX_DIFF_LINES = 1000
"""How much of a file is compared."""
_KINDS: dict[str, ToolKind] = {
    "read": "read",
    "edit": "edit",
    "delete": "delete",
    "move": "move",
    "search": "search",
    "execute": "execute",
    "think": "think",
    "fetch": "fetch",
}
_PLAN_STATUS: dict[str, PlanStatus] = {"in_progress": "in_progress", "completed": "completed"}


def tool_kind(call: Json) -> ToolKind:
    """The kind of a tool call; `other` for an unknown one."""
    return _KINDS.get(as_text(call.get("kind")), "other")


def title(call: Json) -> str:
    """The title of a tool call; the files of one that changes files and is titled without them, as OpenCode's."""
    told = as_text(call.get("title"))
    paths = [as_text(place.get("path")) for place in as_objects(call.get("locations"))]
    if tool_kind(call) == "edit" and paths and not any(PurePath(path).name in told for path in paths):
        return ", ".join(paths)
    return told


def parent(call: Json) -> str | None:
    """The call of the subagent in which a call was made; Claude by ACP tells it beside the protocol."""
    return as_text(as_object(as_object(call.get("_meta")).get("claudeCode")).get("parentToolUseId")) or None


def diffs(call: Json) -> list[Diff]:
    """The changes of files that a tool call asks for."""
    return [
        Diff(
            path=as_text(part.get("path")),
            old=as_text(part.get("oldText")) if isinstance(part.get("oldText"), str) else None,
            new=as_text(part.get("newText")),
        )
        for part in as_objects(call.get("content"))
        if part.get("type") == "diff"
    ]


def diff_text(diff: Diff) -> str:
    """A change as a unified diff, for one that comes with the result of its call."""
    old, new = (text.splitlines()[:MAX_DIFF_LINES] for text in (diff.old or "", diff.new))
    return "\n".join(difflib.unified_diff(old, new, diff.path, diff.path, n=2, lineterm=""))


def result(call: Json) -> tuple[str, list[str]]:
    """The text of a tool call's result, and a description of each image in it."""
    texts: list[str] = []
    images: list[str] = []
    for part in as_objects(call.get("content")):
        if part.get("type") == "content":
            text, image = block(as_object(part.get("content")))
            texts += [text] if text else []
            images += [image] if image else []
    output = as_object(as_object(call.get("_meta")).get("terminal_output"))  # of codex-acp
    if data := as_text(output.get("data")):
        texts.append(data)
    return "\n".join(texts), images


def block(content: Json) -> tuple[str, str]:
    """The text of a content block, and a description of its image; one of them is empty."""
    match content.get("type"):
        case "text":
            return as_text(content.get("text")), ""
        case "image" | "audio":
            size = len(as_text(content.get("data"))) * 3 // 4  # base64
            return "", f"{as_text(content.get('mimeType')) or content['type']}, {size:,} bytes"
        case "resource_link":
            return as_text(content.get("uri")), ""
        case "resource":
            resource = as_object(content.get("resource"))
            return as_text(resource.get("text")) or as_text(resource.get("uri")), ""
        case _:
            return "", ""


def plan(update: Json) -> list[PlanEntry]:
    """The whole plan."""
    return [
        PlanEntry(
            content=as_text(entry.get("content")), status=_PLAN_STATUS.get(as_text(entry.get("status")), "pending")
        )
        for entry in as_objects(update.get("entries"))
    ]


def counted(before: Counts, update: Json) -> Counts:
    """The tokens so far, with those that an update tells beside the protocol."""
    told = _counts(as_object(as_object(update.get("_meta")).get("usage")))
    entered, written, read, stored = add_counts(before, told)
    return entered, written, read, stored


def usage(answer: Json, counted: Counts, model: str | None, *, cost_usd: float | None, partial: bool) -> Usage:
    """The tokens of a turn, from the answer to its prompt: by model in `_meta.quota`, else in `usage`, else those that
    were `counted` before."""
    quota = as_object(as_object(answer.get("_meta")).get("quota"))
    answered = as_object(answer.get("usage")) or as_object(quota.get("token_count"))
    told = _counts(answered) if answered else counted
    parts: dict[str, list[int]] = {}
    total = list(NOTHING)
    for part in as_objects(quota.get("model_usage")):
        name, counts = as_text(part.get("model")), _counts(as_object(part.get("token_count")))
        parts[name] = add_counts(parts.get(name, NOTHING), counts)
        total = add_counts(total, counts)
    if any(counted < count for counted, count in zip(total, told, strict=True)):
        parts = {model or "": list(told)}
    return usage_of(parts, model=model, turns=1, cost_usd=cost_usd, partial=partial)


def _counts(told: Json) -> Counts:
    """Input, output, cache read, cache write. The CLIs name them differently, and do not agree whether the input
    includes the tokens of the cache: the total tells."""
    entered = as_count(told.get("inputTokens", told.get("input_tokens")))
    written = as_count(told.get("outputTokens", told.get("output_tokens")))
    read = as_count(told.get("cachedReadTokens", told.get("cachedInputTokens", told.get("cached_tokens"))))
    stored = as_count(told.get("cachedWriteTokens", told.get("cacheWriteInputTokens")))
    if as_count(told.get("totalTokens")) == entered + written:
        entered = max(0, entered - read - stored)
    return entered, written, read, stored
