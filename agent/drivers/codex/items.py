"""Reads the items of Codex's turns: tool calls with their arguments, changes of files and results; thoughts; plans."""

from __future__ import annotations

import re
import shlex
from typing import cast

from onsembl.agent.drivers.json_lines import Json, as_count, as_object, as_objects, as_text, to_json
from onsembl.agent.drivers.tool_uses import MAX_TEXT
from onsembl.protocol.turn_events import Diff, PlanEntry, PlanStatus, ToolCall, ToolKind

SUBAGENT = "subagent"
_TOOLS: dict[str, tuple[str, ToolKind]] = {
    "commandExecution": ("shell", "execute"),
    "fileChange": ("edit", "edit"),
    "mcpToolCall": ("mcp", "other"),
    "dynamicToolCall": ("tool", "other"),
    "collabAgentToolCall": (SUBAGENT, "think"),
    "webSearch": ("web_search", "fetch"),
    "imageView": ("view_image", "read"),
    "imageGeneration": ("generate_image", "other"),
}
"""The kinds of items that are tool calls, each with the name and the kind of the tool."""
_ARGUMENTS = ("command", "cwd", "arguments", "query", "path", "prompt")
_SHELLS = ("bash", "zsh", "sh")
_PLAN_STATUS: dict[str, PlanStatus] = {"inProgress": "in_progress", "completed": "completed"}
_HUNK = re.compile(r"^(---|\+\+\+|@@|diff |index |\\ )")


def tool_call(item: Json) -> ToolCall | None:
    """The tool call that an item is; None for an item of another kind."""
    found = _TOOLS.get(as_text(item.get("type")))
    if found is None:
        return None
    name, kind = found
    if item["type"] == "mcpToolCall":
        name = ".".join(part for part in (as_text(item.get("server")), as_text(item.get("tool"))) if part) or name
    shown = {name: item[name] for name in _ARGUMENTS if item.get(name)}
    return ToolCall(
        id=as_text(item.get("id")),
        name=name,
        kind=kind,
        title=title(item),
        arguments=to_json(shown),
        diffs=diffs(item),
    )


def title(item: Json) -> str:
    """The main argument of a tool call: the command without its shell, the files, the query."""
    if command := as_text(item.get("command")):
        return _unwrapped(command)
    if changes := as_objects(item.get("changes")):
        return ", ".join(as_text(change.get("path")) for change in changes)
    for name in ("query", "path", "prompt", "tool"):
        if text := as_text(item.get(name)):
            return text
    return ""


def _unwrapped(command: str) -> str:
    """A command without the shell that runs it. Codex quotes it as one word, which needs no quotes if it is one."""
    shell, _, rest = command.partition(" ")
    if shell.rpartition("/")[2] not in _SHELLS or not rest.startswith("-lc ") or len(command) > MAX_TEXT:
        return command
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    return words[2] if len(words) == 3 else command


def diffs(item: Json) -> list[Diff]:
    """The changes of files. Codex gives the whole text of a new file, and hunks of a unified diff for another."""
    found: list[Diff] = []
    for change in as_objects(item.get("changes")):
        path, text = as_text(change.get("path")), as_text(change.get("diff"))
        if as_object(change.get("kind")).get("type") == "update":
            lines = [line for line in text.splitlines(keepends=True) if not _HUNK.match(line)]
            old = "".join(line[1:] for line in lines if line[:1] in ("-", " "))
            new = "".join(line[1:] for line in lines if line[:1] in ("+", " "))
            found.append(Diff(path=path, old=old, new=new))
        elif as_object(change.get("kind")).get("type") == "delete":
            found.append(Diff(path=path, old=text, new=""))
        else:
            found.append(Diff(path=path, old=None, new=text))
    return found


def paths(item: Json) -> list[str]:
    """The files that an item changes, a file's new place included."""
    changes = as_objects(item.get("changes"))
    moved = [as_text(as_object(change.get("kind")).get("move_path")) for change in changes]
    return [as_text(change.get("path")) for change in changes] + [path for path in moved if path]


def result(item: Json) -> str:
    """The text of a tool call's result."""
    texts = [as_text(item.get("aggregatedOutput"))]
    content = as_objects(as_object(item.get("result")).get("content"))
    texts += [as_text(part.get("text")) for part in content]
    texts += [as_text(as_object(state).get("message")) for state in as_object(item.get("agentsStates")).values()]
    texts.append(as_text(as_object(item.get("error")).get("message")))
    if as_count(item.get("exitCode")) > 0:
        texts.append(f"exit {item['exitCode']}")
    return "\n".join(text.rstrip("\n") for text in texts if text)


def begun_threads(item: Json) -> list[str]:
    """The threads of the subagents that a tool call has begun."""
    threads = item.get("receiverThreadIds")
    if item.get("tool") != "spawnAgent" or not isinstance(threads, list):
        return []
    return [as_text(thread) for thread in cast("list[object]", threads)]


def task(item: Json) -> str:
    """The text of a message to a subagent; nothing for another item."""
    if item.get("type") != "userMessage":
        return ""
    return "".join(as_text(part.get("text")) for part in as_objects(item.get("content")))


def message(item: Json) -> str:
    """The text of an ended message or thought; nothing for another item."""
    match item.get("type"):
        case "agentMessage" | "plan":
            return as_text(item.get("text"))
        case "reasoning":
            return thought(item)
        case _:
            return ""


def thought(item: Json) -> str:
    """The text of what the model has thought: a summary."""
    parts = item.get("summary")
    return "\n".join(as_text(part) for part in cast("list[object]", parts)) if isinstance(parts, list) else ""


def plan(params: Json) -> list[PlanEntry]:
    """The whole plan."""
    return [
        PlanEntry(content=as_text(entry.get("step")), status=_PLAN_STATUS.get(as_text(entry.get("status")), "pending"))
        for entry in as_objects(params.get("plan"))
    ]
