"""Decides on Claude Code's tool calls: by the rules of the turn, else by a person who is asked. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import msgspec

from onsembl.agent.drivers.claude import questions, tools
from onsembl.agent.drivers.json_lines import Json, as_object, as_text
from onsembl.agent.drivers.request_bodies import form_answer
from onsembl.agent.drivers.step_recorder import short
from onsembl.agent.mcp.tools import NAMES
from onsembl.protocol.attention_messages import Allow, Answers, Decision, Deny, FilledForm, RequestBody
from onsembl.protocol.request_events import RequestOpened, RequestWithdrawn
from onsembl.protocol.tool_rules import ToolRules
from onsembl.protocol.turn_events import Notice, PermissionDenied, TurnEvent
from onsembl.protocol.turn_messages import Denial

FORM = "elicitation"
_DENIED = "A rule of the control center denies this. Go on without it, and say in the answer what was not possible."
_UNCLEAR = "The questions cannot be shown: ask at most 8 at once, each with at most 32 options."


def own_tools(server: str) -> Sequence[str]:
    """The agent's own tools, which need no permission, on the server of that name."""
    return [f"mcp__{server}__{name}" for name in NAMES]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call that a person decides on, and the id of the CLI's request."""

    request_id: str
    call: str
    name: str
    arguments: Json
    body: RequestBody


class ToolPermissions:
    """The decisions of one run. `send` passes an answer to the CLI, by the id of its request.

    `calls` has the title and the parent of each call that the CLI has shown. `denied` are the calls that were denied.
    """

    def __init__(
        self,
        rules: ToolRules,
        folder: str,
        calls: Mapping[str, tuple[str, str | None]],
        send: Callable[[str, Json], None],
        own_tools: Sequence[str],
    ) -> None:
        self._rules = rules
        self._own_tools = own_tools
        self._folder = folder
        self._calls = calls
        self._send = send
        self._checked: set[str] = set()
        """The tool calls that were compared with the rules before they ran."""
        self._asked: dict[UUID, _Asked] = {}
        self._untold: dict[str, PermissionDenied] = {}
        """Denials of calls that the CLI has not shown yet: those of a subagent come after the question."""
        self.denied: dict[str, Denial] = {}
        self.plan_approved = False

    def before_tool(self, request_id: str, call: Json) -> Iterator[TurnEvent]:
        """Compare a call with the rules before the CLI decides, in every permission mode."""
        name, arguments = as_text(call.get("tool_name")), as_object(call.get("tool_input"))
        identity = as_text(call.get("tool_use_id"))
        self._checked.add(identity)
        denied = self._rules.denial(tools.use(name, arguments, self._folder))
        if denied is None:
            self._send(request_id, {})
            return
        decision = {"permissionDecision": "deny", "permissionDecisionReason": _DENIED}
        self._send(request_id, {"hookSpecificOutput": {"hookEventName": "PreToolUse", **decision}})
        yield from self.deny(identity, name, tools.title(arguments), f"by rule {denied}")

    def can_use_tool(self, request_id: str, request: Json) -> Iterator[TurnEvent]:
        """The CLI asks whether it may call a tool: a rule decides, else a person."""
        identity, name = as_text(request.get("tool_use_id")), as_text(request.get("tool_name"))
        arguments = as_object(request.get("input"))
        use = tools.use(name, arguments, self._folder)
        title, parent = self._calls.get(identity, (tools.title(arguments), None))
        denied, allowed = self._rules.denial(use), self._rules.allowance(use)
        if denied is not None:
            self._send(request_id, {"behavior": "deny", "message": _DENIED})
            yield from self.deny(identity, name, title, f"by rule {denied}")
        elif name in self._own_tools:
            self._send(request_id, {"behavior": "allow", "updatedInput": arguments})
        elif allowed is not None and name not in questions.FOR_PERSONS:
            self._send(request_id, {"behavior": "allow", "updatedInput": arguments})
            yield Notice(kind="permission_mode", text=f"Allowed by rule {allowed}: {name} {title}", parent=parent)
        elif (body := questions.body_of(name, request, self._folder)) is None:
            self._send(request_id, {"behavior": "deny", "message": _UNCLEAR})
            yield from self.deny(identity, name, title, "the questions cannot be shown")
        else:
            id = uuid4()
            self._asked[id] = _Asked(request_id, identity, name, arguments, body)
            shown = questions.title_of(name, body, title)
            yield RequestOpened(id=id, tool_call=identity, title=shown, body=body, parent=parent)

    def elicitation(self, request_id: str, request: Json) -> Iterator[TurnEvent]:
        """An MCP server has a form filled in by a person."""
        body = questions.form_of(request)
        if body is None:
            self._send(request_id, form_answer(Deny()))
            yield from self.deny(request_id, FORM, as_text(request.get("message")), "only forms can be shown")
        else:
            id = uuid4()
            self._asked[id] = _Asked(request_id, request_id, FORM, {}, body)
            yield RequestOpened(id=id, tool_call=request_id, title=questions.title_of(FORM, body, ""), body=body)

    def is_open(self, id: UUID) -> bool:
        """Whether the CLI waits for the decision on a request."""
        return id in self._asked

    def answer(self, id: UUID, decision: Decision, denial: str) -> Iterator[TurnEvent]:
        """Give the CLI a person's decision on an open request. A changed input is held to the rules, too."""
        asked = self._asked.pop(id)
        arguments = questions.changed_arguments(decision, asked.arguments)
        title = tools.title(arguments)
        rule = self._rules.denial(tools.use(asked.name, arguments, self._folder))
        if isinstance(decision, Allow) and rule is not None:
            self._send(asked.request_id, {"behavior": "deny", "message": _DENIED})
            yield from self.deny(asked.call, asked.name, title, f"by rule {rule}")
            return
        self._send(asked.request_id, questions.answer_of(decision, asked.body, arguments))
        if not isinstance(decision, Allow | Answers | FilledForm):
            yield from self.deny(asked.call, asked.name, title, denial)
        elif asked.name == questions.PLAN:
            self.plan_approved = True

    def cancelled(self, request_id: str) -> Iterator[TurnEvent]:
        """The CLI has given a question up."""
        for id, asked in list(self._asked.items()):
            if asked.request_id == request_id:
                del self._asked[id]
                yield RequestWithdrawn(id=id, reason="Claude Code has given the question up.")

    def give_up(self) -> None:
        """Forget all open requests: the CLI gives them up itself at an interrupt."""
        self._asked.clear()

    def ran_unchecked(self, identity: str) -> bool:
        """Whether a call ran that should have been compared with the rules before, and was not."""
        return bool(self._rules.deny) and identity not in self._checked

    def deny(self, identity: str, name: str, title: str, reason: str) -> Iterator[TurnEvent]:
        """Note a denial, once for each call. It is told when the CLI has shown the call."""
        if identity in self.denied:
            return
        self.denied[identity] = Denial(tool=short(name), title=short(title))
        _, parent = self._calls.get(identity, ("", None))
        event = PermissionDenied(tool_call=identity, name=name, title=title, reason=reason, parent=parent)
        if identity in self._calls:
            yield event
        else:
            self._untold[identity] = event

    def shown(self, identity: str, parent: str | None) -> Iterator[TurnEvent]:
        """The CLI has shown a call: its denial follows, if there is one."""
        if (denied := self._untold.pop(identity, None)) is not None:
            yield msgspec.structs.replace(denied, parent=parent)

    def take_untold(self) -> list[TurnEvent]:
        """The denials of calls that the CLI did not show."""
        untold: list[TurnEvent] = [*self._untold.values()]
        self._untold = {}
        return untold
