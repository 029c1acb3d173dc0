"""Kind `claude`: each command is a run of Claude Code, which is driven by its stdio protocol."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from onsembl.agent.drivers.attached_files import AttachedFile, with_paths
from onsembl.agent.drivers.claude.permissions import STARTS
from onsembl.agent.drivers.claude.tool_permissions import own_tools
from onsembl.agent.drivers.claude.translator import ClaudeTranslator
from onsembl.agent.drivers.flags import states
from onsembl.agent.drivers.json_lines import Json
from onsembl.agent.drivers.turn_run import TurnRun
from onsembl.agent.process.process import ProcessContext
from onsembl.protocol.messages import Offer
from onsembl.protocol.permissions import PermissionMode
from onsembl.protocol.reports import SCHEMA
from onsembl.protocol.tool_rules import NO_RULES, ToolRules
from onsembl.protocol.turn_messages import TurnSettings

ARGV = (
    *("claude", "-p", "--verbose", "--include-partial-messages"),
    *("--input-format", "stream-json", "--output-format", "stream-json", "--permission-prompt-tool", "stdio"),
    "--replay-user-messages",  # says when a text was taken that was sent during the turn
)
PENDING_SECONDS = 3600.0
"""How long a call of the agent's own tools may wait. Claude Code itself waits for a day and more."""
_MODE_FLAGS = ("--permission-mode", "--dangerously-skip-permissions")
_CONVERSATION_FLAGS = (
    "--resume",
    "-r",
    "--continue",
    "-c",
    "--session-id",
    "--fork-session",
    "--no-session-persistence",
)


class ClaudeDriver:
    """Starts prompts. The prompt goes to standard input, so that the list of processes does not show it."""

    takes_steers = True
    takes_rules = True
    takes_attachments = True
    takes_answers = True

    @staticmethod
    def takes_forks(arguments: Sequence[str]) -> bool:
        return True

    def start(self, offer: Offer, context: ProcessContext, files: Sequence[AttachedFile] = ()) -> TurnRun:
        argv = [*ARGV, *context.arguments]
        if offer.turn is not None:
            argv += _turn_arguments(offer.turn, context.arguments)
        if offer.limits.cost_usd is not None:  # only the CLI knows the prices
            argv += ["--max-budget-usd", f"{offer.limits.cost_usd:f}"]
        mode: PermissionMode | None = None
        if not states(context.arguments, _MODE_FLAGS):  # else the machine's owner has decided
            mode = offer.turn.permission_mode if offer.turn is not None else "ask"
            argv += STARTS[mode].flags
        rules = offer.turn.rules if offer.turn is not None else NO_RULES
        if mode == "plan":  # which changes nothing, whatever may be done without a question elsewhere
            rules = ToolRules(deny=rules.deny)
        if files:  # else it asks before it reads them
            argv.append(f"--add-dir={files[0].path.parent}")
        access = context.tools.admit(PENDING_SECONDS) if context.tools is not None else None
        if access is not None:
            argv += ["--mcp-config", access.mcp_config()]
        own = own_tools(access.server_name) if access is not None else ()
        content = _content(offer.prompt, files)
        translator = ClaudeTranslator(content, offer.command_id, mode, rules, str(context.cwd), own)
        report = offer.turn is not None and offer.turn.report
        return TurnRun(argv, offer.command_id, context, translator, translator, report=report, access=access)


def _content(prompt: str, files: Sequence[AttachedFile]) -> str | list[Json]:
    """The content of the prompt's message: images as they are, and the paths of all files."""
    text = with_paths(prompt, files)
    images: list[Json] = [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": file.attachment.media_type, "data": file.base64()},
        }
        for file in files
        if file.attachment.is_image
    ]
    return [{"type": "text", "text": text}, *images] if images else text


def _turn_arguments(turn: TurnSettings, own: Sequence[str]) -> list[str]:
    """The arguments that continue or begin a conversation, unless the agent's `own` arguments decide that.

    A conversation whose first turn was killed early has no transcript: it begins anew, under the same id.
    """
    arguments: list[str] = []
    if not states(own, _CONVERSATION_FLAGS):
        if turn.known or _has_transcript(turn.conversation):
            arguments.append(f"--resume={turn.conversation}")
        elif turn.fork_of is not None:
            arguments += [f"--resume={turn.fork_of}", "--fork-session", f"--session-id={turn.conversation}"]
            if turn.fork_at is not None:
                arguments.append(f"--resume-session-at={turn.fork_at}")
        else:
            arguments.append(f"--session-id={turn.conversation}")
    if turn.model is not None:
        arguments.append(f"--model={turn.model}")
    if turn.effort is not None:
        arguments.append(f"--effort={turn.effort}")
    if turn.report:
        arguments.append(f"--json-schema={msgspec.json.encode(SCHEMA).decode()}")
    return arguments


def _has_transcript(conversation: str) -> bool:
    """Whether Claude Code has stored the conversation, in the folder of any project."""
    folder = Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude") / "projects"
    return any(folder.glob(f"*/{conversation}.jsonl"))
