"""How a turn of Claude Code ended, and what failed on its way, in words."""

from __future__ import annotations

from typing import cast

from onsembl.agent.drivers.json_lines import Json, as_count, as_number, as_text
from onsembl.agent.drivers.start_failure import MAX_CAUSE, with_doctor
from onsembl.protocol.turn_events import TurnOutcome

INTERRUPTED = "The turn was interrupted."
BEGIN_ANEW = "Begin a new one with its last answer: onsembl conversations anew CONVERSATION_ID"
_DIAGNOSTIC = "[ede_diagnostic]"
"""Begins diagnostics for the CLI's own developers."""
_TOO_LONG = "Prompt is too long"
_NO_CREDIT = "Add credit to the account of the agent's CLI, then send the prompt again."


def with_mend(error: str, kind: str) -> str:
    """The CLI's error of this kind, and what to do where the CLI does not say it."""
    if kind == "authentication_failed":
        return with_doctor(error)
    if error.startswith(_TOO_LONG):
        return f"{_TOO_LONG}: the conversation is full. {BEGIN_ANEW}"
    return f"{error[:MAX_CAUSE].rstrip('.')}. {_NO_CREDIT}" if kind == "billing_error" else error


def retry_text(line: Json) -> str:
    """A failed call of the model's API that is tried again."""
    status = as_count(line.get("error_status"))
    cause = as_text(line.get("error")).replace("_", " ") or "error"
    error = f"{status} {cause}" if status else "the connection was cut"
    delay = (as_number(line.get("retry_delay_ms")) or 0.0) / 1000
    attempts = f"{as_count(line.get('attempt'))} of {as_count(line.get('max_retries'))}"
    return f"The model's API failed ({error}). Retry {attempts} in {delay:.1f} s."


def outcome_of(result: Json, shown_error: str) -> tuple[TurnOutcome, str | None]:
    """The outcome of a turn and its error. A failed call of the API is a `success` with `is_error`."""
    if not result.get("is_error"):
        return "completed", None
    reason = as_text(result.get("terminal_reason"))
    if result.get("subtype") == "error_max_budget_usd":
        outcome: TurnOutcome = "over_budget"
    elif reason.startswith("aborted"):
        return "interrupted", INTERRUPTED
    else:
        outcome = "failed"
    errors = result.get("errors")
    reported = [as_text(error) for error in cast("list[object]", errors)] if isinstance(errors, list) else []
    reported = [error for error in reported if error and not error.startswith(_DIAGNOSTIC)]
    text = as_text(result.get("result")) or shown_error or "; ".join(reported)
    return outcome, text or (reason or as_text(result.get("subtype"))).replace("_", " ") or "unknown error"
