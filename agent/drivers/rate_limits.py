"""The windows of a vendor's plan, as coding CLIs report them, and the limit at which a turn ended. No I/O."""

from __future__ import annotations

from datetime import UTC, datetime

from onsembl.agent.drivers.json_lines import Json, as_number, as_object, as_text
from onsembl.agent.drivers.step_recorder import short
from onsembl.protocol.field_types import EARLIEST, LATEST
from onsembl.protocol.turn_events import Notice
from onsembl.protocol.vendor_limits import MAX_WINDOWS, RateWindow, VendorLimit, WindowStatus

_CLAUDE_STATUS: dict[str, WindowStatus] = {"allowed_warning": "warning", "rejected": "rejected"}
_CLAUDE_MODELS = {"seven_day_opus": "opus", "seven_day_sonnet": "sonnet"}
"""The windows of Claude's plans that are of some models, and how these are called."""
_CODEX_WINDOWS = ("primary", "secondary")


class RateLimits:
    """The windows of one run of a CLI: the last report of each counts."""

    def __init__(self) -> None:
        self._windows: dict[str, RateWindow] = {}
        self.limit: VendorLimit | None = None
        """The limit at which the last turn ended, if it did."""

    @property
    def windows(self) -> list[RateWindow]:
        """The windows that the CLI has reported."""
        return list(self._windows.values())

    def take_claude(self, info: Json) -> list[Notice]:
        """Take the `rate_limit_info` of Claude Code: the window that counts most at the moment."""
        told = as_text(info.get("status"))
        used = as_number(info.get("utilization"))
        name = short(as_text(info.get("rateLimitType"))) or "plan"
        status = _CLAUDE_STATUS.get(told, "allowed")
        if status == "rejected" and info.get("isUsingOverage") is True:  # the plan is used up, and more is paid for
            status = "warning"
        self._take(name, status, used, info.get("resetsAt"))
        return [] if told in ("", "allowed") else [_notice(told)]

    def take_codex(self, limits: Json) -> list[Notice]:
        """Take the `rateLimits` of Codex. A field that is null has not changed."""
        reached = as_text(limits.get("rateLimitReachedType"))
        for name in _CODEX_WINDOWS:
            if window := as_object(limits.get(name)):
                percent = as_number(window.get("usedPercent"))
                used = percent / 100 if percent is not None else None
                status = "rejected" if used is not None and used >= 1 else "allowed"
                minutes = as_number(window.get("windowDurationMins"))
                self._take(_length(minutes) or name, status, used, window.get("resetsAt"))
        return [_notice(reached)] if reached else []

    def end_turn(self, *, at_limit: bool, untouched: bool) -> None:
        """Note how a turn ended; `untouched` says that it had done nothing."""
        self.limit = None
        if at_limit:
            rejected = [window for window in self._windows.values() if window.status == "rejected"]
            resets = [window.resets_at for window in rejected if window.resets_at is not None]
            models = {_CLAUDE_MODELS.get(window.name) for window in rejected}
            model = models.pop() if len(models) == 1 else None
            self.limit = VendorLimit(resets_at=max(resets, default=None), untouched=untouched, model=model)

    def _take(self, name: str, status: WindowStatus, used: float | None, resets: object) -> None:
        if name in self._windows or len(self._windows) < MAX_WINDOWS:
            bounded = min(max(used, 0.0), 1000.0) if used is not None else None
            self._windows[name] = RateWindow(name=name, status=status, used=bounded, resets_at=_time(resets))


def _time(value: object) -> datetime | None:
    """A time in Unix seconds."""
    seconds = as_number(value)
    if seconds is None or not EARLIEST.timestamp() <= seconds < LATEST.timestamp() or seconds <= 0:
        return None
    return datetime.fromtimestamp(int(seconds), UTC)


def _length(minutes: float | None) -> str:
    """The name of a window that has none, by its length."""
    if minutes is None or minutes < 1:
        return ""
    hours = minutes / 60
    if hours < 1:
        return f"{minutes:.0f} min"
    return f"{hours:.0f} h" if hours <= 48 else f"{hours / 24:.0f} d"


def _notice(status: str) -> Notice:
    return Notice(kind="rate_limit", text=f"Rate limit of the plan: {short(status.replace('_', ' '))}.")
