"""Kind `codex`: each command is a run of Codex's app-server, which is driven by its own protocol."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from onsembl.agent.drivers.attached_files import AttachedFile, with_paths
from onsembl.agent.drivers.codex.program import codex_program
from onsembl.agent.drivers.codex.translator import CodexTranslator
from onsembl.agent.drivers.conversation_ids import ConversationIds
from onsembl.agent.drivers.rule_decisions import rules_of
from onsembl.agent.drivers.turn_run import TurnRun
from onsembl.agent.mcp.gateway import COMMAND, ToolAccess
from onsembl.agent.process.process import ProcessContext
from onsembl.protocol.messages import Offer
from onsembl.protocol.reports import SCHEMA

PENDING_SECONDS, TOOL_SECONDS = 3600.0, 3660
"""How long a call of the agent's own tools may wait, and how long Codex waits for it."""
QUIET = ("env", "RUST_LOG=off")
"""Codex's own log would be shown among its answers: what fails for a person is in its protocol."""


class CodexDriver:
    """Starts prompts. The prompt goes to standard input, so that the list of processes does not show it."""

    takes_steers = True
    takes_rules = True
    takes_attachments = True
    takes_answers = True

    @staticmethod
    def takes_forks(arguments: Sequence[str]) -> bool:
        return True

    def start(self, offer: Offer, context: ProcessContext, files: Sequence[AttachedFile] = ()) -> TurnRun:
        assert context.driver_folder is not None
        ids = ConversationIds(context.driver_folder / "conversations")
        turn = offer.turn
        report = turn is not None and turn.report
        source = turn.fork_of if turn is not None else None
        translator = CodexTranslator(
            with_paths(offer.prompt, files),
            schema=SCHEMA if report else None,
            images=[str(file.path) for file in files if file.attachment.is_image],
            folder=str(context.cwd),
            known=ids.known(turn),
            fork_of=(ids.get(source) or source) if source is not None else None,
            mode=turn.permission_mode if turn is not None else "ask",
            model=turn.model if turn is not None else None,
            effort=turn.effort if turn is not None else None,
            rules=rules_of(turn),
            on_conversation=lambda cli_id: ids.put(turn.conversation, cli_id) if turn is not None else None,
        )
        quiet = () if "RUST_LOG" in os.environ else QUIET
        argv = [*quiet, codex_program(), "app-server", *context.arguments]
        access = context.tools.admit(PENDING_SECONDS) if context.tools is not None else None
        if access is not None:
            argv += _tools(access)
        return TurnRun(argv, offer.command_id, context, translator, translator, report=report, access=access)


def _tools(access: ToolAccess) -> list[str]:
    """The options that give Codex the agent's own tools. A JSON string is a string in TOML, too."""
    command, *arguments = (json.dumps(part) for part in COMMAND)
    names = ", ".join(json.dumps(name) for name in access.environment)
    server = (
        f"command={command}, args=[{', '.join(arguments)}], env_vars=[{names}], tool_timeout_sec={TOOL_SECONDS}, "
        'default_tools_approval_mode="approve"'
    )
    return ["-c", f"mcp_servers.{access.server_name}={{{server}}}"]
