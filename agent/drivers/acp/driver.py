"""Kinds `gemini` and `acp`: each command is a run of a CLI that is driven by the Agent Client Protocol."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from onsembl.agent.drivers.acp.clis import GEMINI, AcpCli, cli_of
from onsembl.agent.drivers.acp.translator import AcpTranslator
from onsembl.agent.drivers.attached_files import AttachedFile, with_paths
from onsembl.agent.drivers.conversation_ids import ConversationIds
from onsembl.agent.drivers.flags import states
from onsembl.agent.drivers.json_lines import Json
from onsembl.agent.drivers.rule_decisions import rules_of
from onsembl.agent.drivers.turn_run import TurnRun
from onsembl.agent.mcp.gateway import COMMAND, ToolAccess
from onsembl.agent.process.process import ProcessContext
from onsembl.protocol.messages import Offer
from onsembl.protocol.permissions import PermissionMode
from onsembl.protocol.reports import INSTRUCTION

PENDING_SECONDS = 540.0
"""How long a call of the agent's own tools may wait: Gemini CLI gives a call up after 10 minutes."""
_MINUTE = "%Y-%m-%dT%H-%M"
_MARGIN_SECONDS = 0.5
_MODE_FLAGS = ("--approval-mode", "--yolo", "-y")


class GeminiDriver:
    """Starts prompts. The prompt goes to standard input, so that the list of processes does not show it."""

    takes_steers = False
    takes_rules = True
    takes_attachments = True
    takes_answers = True

    @staticmethod
    def takes_forks(arguments: Sequence[str]) -> bool:
        return GEMINI.forks

    def start(self, offer: Offer, context: ProcessContext, files: Sequence[AttachedFile] = ()) -> TurnRun:
        own_mode = states(context.arguments, _MODE_FLAGS)  # the machine's owner has decided
        known = _ids(context).known(offer.turn)
        delay = seconds_until_loadable(known, time.time()) if known is not None else 0.0
        reason = f"Waits {delay:.0f} s: Gemini CLI would lose a conversation that it opens twice within one minute."
        return _start(GEMINI, context.arguments, offer, context, files, own_mode, delay, reason)


class AcpDriver:
    """Starts prompts, as `GeminiDriver`, for the CLI that the agent's arguments name."""

    takes_steers = False
    takes_rules = True
    takes_attachments = True
    takes_answers = True

    @staticmethod
    def takes_forks(arguments: Sequence[str]) -> bool:
        return cli_of(arguments).forks

    def start(self, offer: Offer, context: ProcessContext, files: Sequence[AttachedFile] = ()) -> TurnRun:
        return _start(cli_of(context.arguments), (), offer, context, files)


def _ids(context: ProcessContext) -> ConversationIds:
    assert context.driver_folder is not None
    return ConversationIds(context.driver_folder / "conversations")


def _start(
    cli: AcpCli,
    arguments: Sequence[str],
    offer: Offer,
    context: ProcessContext,
    files: Sequence[AttachedFile],
    own_mode: bool = False,
    delay: float = 0.0,
    reason: str = "",
) -> TurnRun:
    ids, turn = _ids(context), offer.turn
    source = turn.fork_of if turn is not None else None
    argv = [*cli.argv, *arguments]
    if turn is not None and turn.model is not None and cli.model_flag is not None:
        argv += [cli.model_flag, turn.model]
    if files and cli.folder_flag is not None:  # it reads nothing outside of its folders
        argv += [cli.folder_flag, str(files[0].path.parent)]
    mode: PermissionMode | None = None
    if not own_mode:
        mode = turn.permission_mode if turn is not None else "ask"
    report = turn is not None and turn.report
    prompt = f"{offer.prompt}\n\n{INSTRUCTION}" if report else offer.prompt
    access = context.tools.admit(PENDING_SECONDS) if context.tools is not None else None
    translator = AcpTranslator(
        cli,
        with_paths(prompt, files),
        images=[(file.attachment.media_type, file.base64()) for file in files if file.attachment.is_image],
        folder=str(context.cwd),
        known=ids.known(turn),
        fork_of=(ids.get(source) or source) if source is not None else None,
        mode=mode,
        model=turn.model if turn is not None else None,
        has_key=cli.key_method is not None and bool(os.environ.get(cli.key_method[1])),
        rules=rules_of(turn),
        mcp_servers=[_tools(access)] if access is not None else [],
        own_tools=cli.own_tools(access.server_name) if access is not None else (),
        on_conversation=lambda cli_id: ids.put(turn.conversation, cli_id) if turn is not None else None,
    )
    return TurnRun(
        argv, offer.command_id, context, translator, report=report, delay=delay, reason=reason, access=access
    )


def _tools(access: ToolAccess) -> Json:
    """The agent's own tools, as ACP names a server of tools. It goes to the CLI's input, which nobody else reads."""
    environment = [{"name": name, "value": value} for name, value in access.environment.items()]
    return {"name": access.server_name, "command": COMMAND[0], "args": [*COMMAND[1:]], "env": environment}


def seconds_until_loadable(conversation: str, now: float) -> float:
    """How long a conversation may not be loaded from `now` on, in seconds (`now` is Unix time).

    Gemini CLI names a conversation's file by the minute (in UTC) in which it was opened and by the beginning of its id.
    Opening it again within that minute writes the file anew, without its content. Seen with version 0.61.
    """
    home = Path(os.environ.get("GEMINI_CLI_HOME") or Path.home())
    minute = datetime.fromtimestamp(now, UTC).strftime(_MINUTE)
    opened = (home / ".gemini" / "tmp").glob(f"*/chats/session-{minute}-{conversation[:8]}.jsonl")
    return 60.0 - now % 60.0 + _MARGIN_SECONDS if any(opened) else 0.0
