"""Kind `gemini`: each command is a run of Gemini CLI, which is driven by the Agent Client Protocol."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from onsembl.agent.drivers.acp.clis import GEMINI
from onsembl.agent.drivers.acp.translator import AcpTranslator
from onsembl.agent.drivers.attached_files import AttachedFile, with_paths
from onsembl.agent.drivers.conversation_ids import ConversationIds
from onsembl.agent.drivers.flags import states
from onsembl.agent.drivers.turn_run import TurnRun
from onsembl.agent.process.process import ProcessContext
from onsembl.protocol.messages import Offer
from onsembl.protocol.permissions import PermissionMode
from onsembl.protocol.reports import INSTRUCTION

_MINUTE = "%Y-%m-%dT%H-%M"
_MARGIN_SECONDS = 0.5
_MODE_FLAGS = ("--approval-mode", "--yolo", "-y")


class GeminiDriver:
    """Starts prompts. The prompt goes to standard input, so that the list of processes does not show it."""

    takes_steers = False
    takes_rules = False
    takes_attachments = True

    def start(self, offer: Offer, context: ProcessContext, files: Sequence[AttachedFile] = ()) -> TurnRun:
        assert context.driver_folder is not None
        ids = ConversationIds(context.driver_folder / "conversations")
        turn = offer.turn
        argv = [*GEMINI.argv, *context.arguments]
        if turn is not None and turn.model is not None:
            argv += ["--model", turn.model]
        if files:  # it reads nothing outside of its folders
            argv += ["--include-directories", str(files[0].path.parent)]
        mode: PermissionMode | None = None
        if not states(context.arguments, _MODE_FLAGS):  # else the machine's owner has decided
            mode = turn.permission_mode if turn is not None else "ask"
        known = ids.known(turn)
        report = turn is not None and turn.report
        prompt = f"{offer.prompt}\n\n{INSTRUCTION}" if report else offer.prompt
        translator = AcpTranslator(
            GEMINI,
            with_paths(prompt, files),
            images=[(file.attachment.media_type, file.base64()) for file in files if file.attachment.is_image],
            folder=str(context.cwd),
            known=known,
            fork_of=turn.fork_of if turn is not None else None,
            mode=mode,
            has_key=bool(os.environ.get("GEMINI_API_KEY")),
            on_conversation=lambda cli_id: ids.put(turn.conversation, cli_id) if turn is not None else None,
        )
        delay = seconds_until_loadable(known, time.time()) if known is not None else 0.0
        reason = f"Waits {delay:.0f} s: Gemini CLI would lose a conversation that it opens twice within one minute."
        return TurnRun(argv, offer.command_id, context, translator, report=report, delay=delay, reason=reason)


def seconds_until_loadable(conversation: str, now: float) -> float:
    """How long a conversation may not be loaded from `now` on, in seconds (`now` is Unix time).

    Gemini CLI names a conversation's file by the minute (in UTC) in which it was opened and by the beginning of its id.
    Opening it again within that minute writes the file anew, without its content. Seen with version 0.61.
    """
    home = Path(os.environ.get("GEMINI_CLI_HOME") or Path.home())
    minute = datetime.fromtimestamp(now, UTC).strftime(_MINUTE)
    opened = (home / ".gemini" / "tmp").glob(f"*/chats/session-{minute}-{conversation[:8]}.jsonl")
    return 60.0 - now % 60.0 + _MARGIN_SECONDS if any(opened) else 0.0
