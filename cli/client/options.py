"""Options that several of the operator's commands share: the server, times, the target and the limits of a command."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, get_args
from urllib.parse import urlsplit

import click

from onsembl.cli.insecure import insecure_option
from onsembl.protocol.permissions import PERMISSION_MODES
from onsembl.protocol.turn_messages import Effort
from onsembl.protocol.vendor_limits import OnLimit

F = TypeVar("F", bound=Callable[..., Any])

_AGO_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LIMIT_FIELDS = {
    "work_time": "work_seconds",
    "idle_time": "idle_seconds",
    "waiting_time": "waiting_seconds",
    "max_tokens": "tokens",
    "max_cost": "cost_usd",
    "on_limit": "on_limit",
}
"""Each limit's option and its field in the REST API."""


def past_time(text: str) -> datetime:
    """A click type: how long ago (`90m`, `36h`, `7d`, `2w`), or a date or time (`2026-01-31`, `2026-01-31T12:00:00Z`).

    A time without an offset is in this machine's time zone. The result is in UTC.
    """
    return _time(text, -1, "a period before now")


def future_time(text: str) -> datetime:
    """A click type: like `past_time`, but `90m` means 90 minutes from now."""
    return _time(text, 1, "a period from now")


def _time(text: str, sign: int, period: str) -> datetime:
    if (found := re.fullmatch(r"(\d{1,6})([mhdw])", text)) is not None:
        return datetime.now(UTC) + sign * timedelta(**{_AGO_UNITS[found[2]]: int(found[1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        reason = f"{text!r} is neither a time (2026-01-31T12:00:00Z) nor {period} (90m, 36h, 7d, 2w)."
        raise click.BadParameter(reason) from error


def duration(text: str) -> float:
    """A click type: a length of time (`90`, `90s`, `30m`, `2h`, `1d`), in seconds."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a duration such as 90s, 30m, 2h or 1d.")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def server_url(text: str) -> str:
    """A click type: the URL of a control center, its scheme in small letters and without a slash at its end."""
    refused = click.BadParameter("use a URL such as https://onsembl.example.org")
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise refused from None
    if not valid:
        raise refused
    return parts.geturl().rstrip("/")


def server_option(command: F) -> F:
    """Add `--server`, and `--insecure`, which the REST client reads."""
    option = click.option(
        "--server",
        type=server_url,
        metavar="URL",
        envvar="ONSEMBL_SERVER",
        show_envvar=True,
        help="The control center's URL; by default that of `onsembl login`.",
    )
    return option(insecure_option(command))


since_option = click.option(
    "--since",
    type=past_time,
    metavar="TIME",
    help="From this time on: 90m (ago), 36h, 7d, 2026-01-31, 2026-01-31T12:00:00Z.",
)
until_option = click.option("--until", type=past_time, metavar="TIME", help="Before this time; same forms as --since.")
reason_option = click.option("--reason", help="The reason, for the audit log.")
priority_option = click.option(
    "--priority", type=click.IntRange(1, 10), help="Priority from 1 (first) to 10; by default the preset's, or 5."
)
count_option = click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Maximum number of results."
)


def target_options(command: F) -> F:
    """Add `--agent`, `--label` and `--all`: the agents that a command is for. `target_of` reads them."""
    for option in (
        click.option("--all", "all_agents", is_flag=True, help="For every agent."),
        click.option(
            "--label", "labels", multiple=True, help="For the agents with this label; repeat to require several labels."
        ),
        click.option("--agent", "agents", multiple=True, metavar="NAME", help="For this agent (repeat for several)."),
    ):
        command = option(command)
    return command


def target_of(agents: tuple[str, ...], labels: tuple[str, ...], all_agents: bool) -> dict[str, Any]:
    """The target in the form of the REST API. Raises click.UsageError unless exactly one kind of target is given."""
    if bool(agents) + bool(labels) + all_agents != 1:
        raise click.UsageError("Give one kind of target: --agent, --label or --all.")
    return {"all": True} if all_agents else {"labels": labels} if labels else {"agents": agents}


def limit_options(command: F) -> F:
    """Add the limits of a command. `limits_of` reads them."""
    for option in (
        click.option(
            "--on-limit",
            type=click.Choice(get_args(OnLimit)),
            help="At a usage limit of the vendor: wait for its reset (the default), or fail.",
        ),
        click.option(
            "--max-cost", type=click.FloatRange(0, min_open=True), metavar="USD", help="Stop a command that costs more."
        ),
        click.option("--max-tokens", type=click.IntRange(1), metavar="COUNT", help="Stop a command that uses more."),
        click.option(
            "--idle-time", type=duration, metavar="TIME", help="Stop a command that writes nothing for this long."
        ),
        click.option(
            "--waiting-time",
            type=duration,
            metavar="TIME",
            help="Stop a command whose request nobody answers for this long.",
        ),
        click.option(
            "--work-time",
            "--wall-time",
            "work_time",
            type=duration,
            metavar="TIME",
            help="Stop a command that works longer: 90s, 30m, 2h. --wall-time is the old name.",
        ),
    ):
        command = option(command)
    return command


def limits_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The given limits in the form of the REST API."""
    return {field: options[option] for option, field in _LIMIT_FIELDS.items() if options[option] is not None}


def turn_options(command: F) -> F:
    """Add the options of a prompt: its conversation, model, effort, permission mode and rules. `turn_of` reads them."""
    for option in (
        rule_options,
        click.option(
            "--permission-mode",
            type=click.Choice(PERMISSION_MODES),
            help="How far the agent goes without asking; by default as far as it may.",
        ),
        click.option("--effort", type=click.Choice(get_args(Effort)), help="How hard the model thinks, for this turn."),
        click.option("--model", metavar="NAME", help="The model of this turn, by a name that the CLI knows."),
        click.option("--conversation", "conversation_id", type=click.UUID, metavar="ID", help="Continue this one."),
        click.option("--continue", "conversation", flag_value="latest", help="Continue the latest conversation."),
        click.option("--new", "conversation", flag_value="new", help="Begin a new conversation."),
    ):
        command = option(command)
    return command


def turn_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings of a turn, in the form of the REST API. Raises click.UsageError for two conversations."""
    conversation, conversation_id = options["conversation"], options["conversation_id"]
    if conversation is not None and conversation_id is not None:
        raise click.UsageError("Give one conversation: --new, --continue or --conversation ID.")
    given = {
        "conversation": conversation if conversation_id is None else str(conversation_id),
        "model": options["model"],
        "effort": options["effort"],
        "permission_mode": options["permission_mode"],
        "rules": rules_of(options) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def rule_options(command: F) -> F:
    """Add `--allow` and `--deny`. `rules_of` reads them."""
    for option in (
        click.option(
            "--deny", multiple=True, metavar="RULE", help="Deny tool calls: TOOL or TOOL(PATTERN) (repeat for several)."
        ),
        click.option(
            "--allow", multiple=True, metavar="RULE", help="Allow tool calls without a question (repeat for several)."
        ),
    ):
        command = option(command)
    return command


def rules_of(options: Mapping[str, Any]) -> dict[str, list[str]]:
    """The given rules in the form of the REST API."""
    return {name: list(options[name]) for name in ("allow", "deny") if options[name]}
