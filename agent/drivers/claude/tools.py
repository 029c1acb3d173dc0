"""Claude Code's tools: the kind of each, its main argument, and the changes of files that a call of it asks for."""

from __future__ import annotations

from onsembl.agent.drivers.json_lines import Json, as_object, as_objects, as_text, to_json
from onsembl.agent.drivers.tool_uses import file_use, shell_use, text_use
from onsembl.protocol.tool_rules import ToolUse
from onsembl.protocol.turn_events import Diff, ToolKind

_KINDS: dict[str, ToolKind] = {
    "Read": "read",
    "NotebookRead": "read",
    "Edit": "edit",
    "MultiEdit": "edit",
    "Write": "edit",
    "NotebookEdit": "edit",
    "Glob": "search",
    "Grep": "search",
    "LS": "search",
    "ToolSearch": "search",
    "Bash": "execute",
    "BashOutput": "execute",
    "KillShell": "execute",
    "WebFetch": "fetch",
    "WebSearch": "fetch",
    "Agent": "think",
    "Task": "think",
    "TaskCreate": "think",
    "TaskGet": "think",
    "TaskList": "think",
    "TaskUpdate": "think",
    "TodoWrite": "think",
    "ExitPlanMode": "think",
}
_MAIN_ARGUMENTS = (
    "command",
    "file_path",
    "notebook_path",
    "path",
    "pattern",
    "query",
    "url",
    "subject",
    "description",
    "prompt",
)


def tool_kind(name: str) -> ToolKind:
    """The kind of a tool; `other` for an unknown one."""
    return _KINDS.get(name, "other")


def title(arguments: Json) -> str:
    """The first main argument of a call; all arguments as JSON when it has none. A plan is shown as a message."""
    if "plan" in arguments:
        return ""
    main = next((arguments[name] for name in _MAIN_ARGUMENTS if isinstance(arguments.get(name), str)), None)
    return to_json(arguments) if main is None else main


def use(name: str, arguments: Json, folder: str) -> ToolUse:
    """The call, as rules see it; `folder` is the working directory."""
    kind = tool_kind(name)
    names = [name] if kind == "other" else [name, kind]
    if kind in ("read", "edit"):
        return file_use(names, as_text(arguments.get("file_path") or arguments.get("notebook_path")), folder)
    if "command" in arguments and kind in ("execute", "other"):
        return shell_use(names, as_text(arguments.get("command")))
    if name in ("Glob", "Grep", "LS"):
        return file_use(names, as_text(arguments.get("path")) or folder, folder)
    return text_use(names, title(arguments) if kind != "other" else to_json(arguments))


def diffs(name: str, arguments: Json) -> list[Diff]:
    """The changes of files that a call asks for."""
    path = as_text(arguments.get("file_path") or arguments.get("notebook_path"))
    match name:
        case "Write":
            return [Diff(path=path, old=None, new=as_text(arguments.get("content")))]
        case "NotebookEdit":
            return [Diff(path=path, old=None, new=as_text(arguments.get("new_source")))]
        case "Edit":
            return [_edit(path, arguments)]
        case "MultiEdit":
            return [_edit(path, edit) for edit in as_objects(arguments.get("edits"))]
        case _:
            return []


def _edit(path: str, edit: Json) -> Diff:
    return Diff(path=path, old=as_text(edit.get("old_string")), new=as_text(edit.get("new_string")))


def result_text(content: object) -> tuple[str, list[str]]:
    """The text of a tool's result, and a description of each image in it."""
    if isinstance(content, str):
        return content, []
    texts: list[str] = []
    images: list[str] = []
    for part in as_objects(content):
        match part.get("type"):
            case "text":
                texts.append(as_text(part.get("text")))
            case "image":
                source = as_object(part.get("source"))
                size = len(as_text(source.get("data"))) * 3 // 4  # base64
                images.append(f"{as_text(source.get('media_type')) or 'image'}, {size:,} bytes")
            case _:
                pass
    return "\n".join(texts), images
