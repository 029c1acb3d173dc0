"""The working time of a command, which stands still while the command only waits for a person. No I/O, and no clock of
its own: each call has the time, of any one clock that never goes back.

The time stands still only while a request is open and nothing else of the command runs: no other tool, no subagent, and
no turn that goes on beside a subagent that asks. Agents call this clock as it happens; servers are told its state.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass

ASK_TOOL = "ask_operator"
"""The agent's own tool by which a coding CLI asks; its calls do nothing but wait."""


@dataclass(frozen=True, slots=True)
class _Request:
    opened: float
    tool_call: str
    parent: str | None


class WorkClock:
    """The clock of one command, from its start at `started`.

    A tool call counts as running from `tool_began` to `tool_ended`, a background subagent as long as `background` names
    the tool call that started it. The call that a request is about does not run, nor do the subagents in which it was
    made. A request that names no call excuses one call: which, the CLI does not say.
    """

    def __init__(self, started: float) -> None:
        self.started = started
        self.active_at = started
        """When the command last began to work: at its start, or when it had waited."""
        self._stood_still = 0.0
        self._still_since: float | None = None
        self._requests: dict[Hashable, _Request] = {}
        self._parents: dict[str, str | None] = {}
        """The tool calls that have no result yet, each with the call whose subagent made it."""
        self._asking: set[str] = set()
        """Those of them that only wait for a request of `ask_operator`."""
        self._background: set[str] = set()
        self._turn_runs = True

    # What happens

    def request_opened(self, id: Hashable, at: float, *, tool_call: str = "", parent: str | None = None) -> None:
        """The command waits for a person, because of this tool call, made by the subagent of `parent`."""
        self._requests[id] = _Request(at, tool_call, parent)
        self._update(at)

    def request_closed(self, id: Hashable, at: float) -> None:
        """A request is answered or withdrawn."""
        self._requests.pop(id, None)
        self._update(at)

    def tool_began(self, id: str, at: float, *, parent: str | None = None, asks: bool = False) -> None:
        """A tool call has no result yet; with `asks` it is one of `ask_operator`."""
        self._parents[id] = parent
        if asks:
            self._asking.add(id)
        self._update(at)

    def tool_ended(self, id: str, at: float) -> None:
        """A tool call has its result."""
        self._parents.pop(id, None)
        self._asking.discard(id)
        self._update(at)

    def background(self, ids: Collection[str], at: float) -> None:
        """The subagents of these tool calls, and no others, work in the background."""
        self._background = set(ids)
        self._update(at)

    def turn_began(self, at: float) -> None:
        """The CLI works on a turn."""
        self._turn_runs = True
        self._update(at)

    def turn_ended(self, at: float) -> None:
        """The CLI has ended a turn, with all its tool calls; background subagents go on."""
        self._turn_runs = False
        for id in [id for id in self._parents if not self._in_background(id)]:
            del self._parents[id]
            self._asking.discard(id)
        self._update(at)

    # What follows from it

    @property
    def stands_still(self) -> bool:
        """Whether the command only waits for a person."""
        return self._still_since is not None

    def stood_still(self, at: float) -> float:
        """The seconds in which the command only waited, up to now."""
        return self._stood_still + (at - self._still_since if self._still_since is not None else 0.0)

    @property
    def counts_from(self) -> float:
        """The start of the working time, while that goes on: the command's, put off by the time for which it waited."""
        return self.started + self._stood_still

    @property
    def waits_since(self) -> float | None:
        """When the oldest of the open requests was opened."""
        return min((request.opened for request in self._requests.values()), default=None)

    def _update(self, at: float) -> None:
        still = self._only_waits()
        if still and self._still_since is None:
            self._still_since = at
        elif not still and self._still_since is not None:
            self._stood_still += at - self._still_since
            self._still_since, self.active_at = None, at

    def _only_waits(self) -> bool:
        if not self._requests:
            return False
        waiting = self._asking.union(*(self._callers(request) for request in self._requests.values()))
        nameless = sum(not request.tool_call for request in self._requests.values())
        if len({*self._parents, *self._background} - waiting) > nameless:
            return False
        return not self._turn_runs or any(self._turn_waits(request) for request in self._requests.values())

    def _callers(self, request: _Request) -> set[str]:
        """The tool call of a request, and those whose subagents made it: none of them runs."""
        found, call = {request.tool_call}, self._parents.get(request.tool_call, request.parent)
        while call is not None and call not in found:
            found.add(call)
            call = self._parents.get(call)
        return found

    def _turn_waits(self, request: _Request) -> bool:
        """Whether the turn itself cannot go on before the request is closed."""
        if request.tool_call == ASK_TOOL:
            return any(not self._in_background(call) for call in self._asking)
        return not self._callers(request) & self._background

    def _in_background(self, call: str | None) -> bool:
        seen: set[str] = set()
        while call is not None and call not in seen:
            if call in self._background:
                return True
            seen.add(call)
            call = self._parents.get(call)
        return False
