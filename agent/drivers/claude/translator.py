"""Translates Claude Code's stdio protocol: its output into events of a turn, and requests into lines for it. No I/O.

The CLI runs as `claude -p --input-format stream-json --output-format stream-json --permission-prompt-tool stdio`; both
SDKs of its vendor speak this protocol, which is not documented and may change. Unknown types and fields are counted and
passed over. As seen with the versions 2.1.197 and 2.1.332.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast
from uuid import UUID

from onsembl.agent.drivers.claude import tools
from onsembl.agent.drivers.claude.outcomes import BEGIN_ANEW, INTERRUPTED, outcome_of, retry_text, with_mend
from onsembl.agent.drivers.claude.permissions import STARTS, goes_further
from onsembl.agent.drivers.claude.task_list import TASK_TOOLS, TASK_WRITERS, TaskList
from onsembl.agent.drivers.claude.tool_permissions import ToolPermissions
from onsembl.agent.drivers.claude.usage import UsageCounter
from onsembl.agent.drivers.json_lines import (
    Json,
    JsonLines,
    as_count,
    as_id,
    as_number,
    as_object,
    as_objects,
    as_text,
    encode_line,
    to_json,
)
from onsembl.agent.drivers.rate_limits import RateLimits
from onsembl.agent.drivers.step_recorder import short
from onsembl.agent.rendering.text import printable
from onsembl.protocol.attention_messages import Decision
from onsembl.protocol.permissions import PermissionMode
from onsembl.protocol.tool_rules import NO_RULES, ToolRules
from onsembl.protocol.turn_events import (
    BackgroundSubagents,
    MessageChunk,
    MessageEnded,
    Notice,
    NoticeKind,
    Plan,
    Speaker,
    Steered,
    StructuredAnswer,
    ToolCall,
    ToolCallEnded,
    TurnEnded,
    TurnEvent,
    TurnOutcome,
    TurnStarted,
)
from onsembl.protocol.turn_messages import MAX_DENIALS, TurnReport
from onsembl.protocol.usage import Usage

_BEFORE_TOOL = "before_tool"
_FORGOTTEN = "No conversation found"


class ClaudeTranslator:
    """One run of Claude Code, for one prompt. `own_tools` need no permission.

    A text that is given to it during the turn (`steer`) goes into that turn at its next step, between two tools; after
    an answer it begins a turn of its own in the same run. The CLI says when it takes a text: newer versions by a line
    of its own, all by repeating it, which may come after the first piece of the answer.

    `receive` and `end` return events. `take_input` returns bytes for the CLI's input, after each other call. When
    `input_complete` is true, the input is to be closed: then the CLI ends.
    """

    def __init__(
        self,
        prompt: str | list[Json],
        message_id: UUID,
        permission_mode: PermissionMode | None,
        rules: ToolRules = NO_RULES,
        folder: str = "/",
        own_tools: Sequence[str] = (),
    ) -> None:
        self._lines = JsonLines()
        self._to_send: list[bytes] = []
        self._requests = 0
        self._usage = UsageCounter()
        self._limits = RateLimits()
        self._seconds = 0.0
        self._streamed: dict[str | None, str] = {}
        """The message whose pieces were shown as they came, whose whole blocks are then not shown again."""
        self._calls: dict[str, tuple[str, str | None]] = {}
        """The title and the parent of each tool call."""
        self._tasks = TaskList()
        self._task_calls: dict[str, tuple[Json, str | None]] = {}
        """The calls of the tools of tasks that have no result yet, and the parent of each."""
        self._plan_parent: str | None = None
        self._started: TurnStarted | None = None
        self._context: tuple[int, int] | None = None
        """The tokens of the conversation that the model has read last, and how many it can read."""
        self._forgotten = False
        self._last_line = ""
        """The id of the last line of the main conversation, by which a fork names its end."""
        self._subagents: set[str] = set()
        self._agent_calls: dict[str, str] = {}
        """The tool call that started each subagent, by the id of its task."""
        self._told_background: list[str] = []
        """The tool calls of the subagents in the background, as the last event has them."""
        self._shells: dict[str, str] = {}
        """The shell commands that run now, by the id of their task."""
        self._turn_runs = True
        self._interrupted = False
        self._stopped: str | None = None
        """Why the turn was stopped, if the CLI went further than it may."""
        self._permissions = ToolPermissions(rules, folder, self._calls, self._answer, own_tools)
        self._last_error = ""
        self._error_kind = ""
        """The kind of the last error, in the CLI's words."""
        self._last_message: list[int] = []
        """The token counts of the last message of the main conversation."""
        self.outcome: TurnOutcome | None = None
        """The outcome of the last turn that did something; None before the first result."""
        self._error: str | None = None
        self.unknown = 0
        """How many lines were of an unknown type."""
        self._unsent: list[Json] = []
        """Texts that were given before the prompt was sent."""
        self._steers: dict[str, str] = {}
        """The texts that the CLI has not taken yet, by their ids."""
        self._permission_mode: PermissionMode | None = permission_mode
        self._prompt: Json = _user_line(message_id, prompt)
        hooks = {"PreToolUse": [{"matcher": None, "hookCallbackIds": [_BEFORE_TOOL]}]} if rules.deny else None
        self._ask("initialize", hooks=hooks)
        self._mode_request: str | None = None
        request = STARTS[permission_mode].request if permission_mode is not None else None
        if request is None:
            self._send(self._prompt)
        else:
            self._mode_request = self._ask("set_permission_mode", mode=request)

    # For the driver

    def receive(self, data: bytes) -> list[TurnEvent]:
        """Translate output, which may be cut anywhere."""
        return [event for line in self._lines.feed(data) for event in (*self._line(line), *self._background())]

    def end(self) -> list[TurnEvent]:
        """Translate the last line at the end of the output."""
        events = [event for line in self._lines.end() for event in self._line(line)]
        events += [*self._changed_plan(), *self._permissions.take_untold()]
        if self._streamed:
            events.append(MessageEnded())
        return events

    def steer(self, steer_id: UUID, text: str) -> None:
        """Give the CLI a text for the running turn."""
        self._steers[str(steer_id)] = text
        line = _user_line(steer_id, text)
        if self._mode_request is None:
            self._send(line)
        else:
            self._unsent.append(line)

    def drop_steers(self) -> None:
        """Wait no longer for the CLI to take the texts that it has not taken."""
        self._steers.clear()

    def interrupt(self) -> None:
        """Ask the CLI to end the turn, together with messages that wait; the conversation stays.

        A prompt that was not sent yet is not sent any more.
        """
        self._interrupted = True
        self._permissions.give_up()
        self._subagents.clear()  # an interrupt ends them, too
        self._ask("interrupt", cancel_queued=True)

    def answer(self, request_id: UUID, decision: Decision, denial: str) -> list[TurnEvent] | None:
        """Give the CLI the decision on a request that was opened by an event; None when it does not wait any more.
        `denial` is shown if it is one."""
        if not self._permissions.is_open(request_id):
            return None
        events = list(self._permissions.answer(request_id, decision, denial))
        if self._permissions.plan_approved and self._permission_mode == "plan":
            self._permission_mode = "ask"  # to which the CLI changes then: a person decides on each further step
        return events

    def take_input(self) -> bytes:
        """The bytes for the CLI's input since the last call."""
        data = b"".join(self._to_send)
        self._to_send = []
        return data

    @property
    def idle(self) -> bool:
        """Whether the turn has ended, and no subagent works in the background."""
        return not self._turn_runs and not self._subagents

    @property
    def input_complete(self) -> bool:
        """Whether the CLI is idle and has taken every text."""
        return self.idle and not self._steers

    @property
    def usage(self) -> Usage | None:
        """The tokens and the cost so far; None before any were reported."""
        return self._usage.usage

    @property
    def error(self) -> str | None:
        """The error of the last turn that did something, or the last error that was shown without a result."""
        if self.outcome is not None:
            return self._error
        return with_mend(self._last_error, self._error_kind) if self._last_error else None

    @property
    def report(self) -> TurnReport:
        """What the CLI has said of the turn and its conversation."""
        started = self._started
        conversation = started.conversation if started is not None else ""
        return TurnReport(
            conversation=as_id(conversation),
            model=short(started.model) if started is not None else None,
            folder=started.folder.replace("\0", "")[:4096] if started is not None else None,
            permission_mode=short(started.permission_mode) if started is not None else None,
            context_tokens=self._context[0] if self._context is not None else None,
            context_window=self._context[1] if self._context is not None else None,
            denied=len(self._permissions.denied),
            denials=list(self._permissions.denied.values())[:MAX_DENIALS],
            forgotten=self._forgotten,
            last_message=as_id(self._last_line),
            windows=self._limits.windows,
            limit=self._limits.limit,
        )

    def _ask(self, subtype: str, **fields: object) -> str:
        self._requests += 1
        request_id = f"onsembl-{self._requests}"
        self._send({"type": "control_request", "request_id": request_id, "request": {"subtype": subtype, **fields}})
        return request_id

    def _send(self, line: object) -> None:
        self._to_send.append(encode_line(line))

    # Lines of the CLI

    def _background(self) -> Iterator[TurnEvent]:
        """The subagents in the background, if they are others than before."""
        calls = [call for task, call in self._agent_calls.items() if task in self._subagents]
        if calls != self._told_background:
            self._told_background = calls
            yield BackgroundSubagents(tool_calls=calls)

    def _line(self, line: Json | str) -> Iterator[TurnEvent]:
        """The events of a line. Calls that change tasks one after the other make one plan, before the next event."""
        for event in self._translated(line):
            if not isinstance(event, MessageEnded):
                yield from self._changed_plan()
            yield event

    def _changed_plan(self) -> Iterator[TurnEvent]:
        if (entries := self._tasks.take_change()) is not None:
            yield Plan(entries=entries, parent=self._plan_parent)

    def _translated(self, line: Json | str) -> Iterator[TurnEvent]:
        if isinstance(line, str):
            yield Notice(kind="unknown_output", text=line)
            return
        parent = as_text(line.get("parent_tool_use_id")) or None
        match line.get("type"):
            case "stream_event":
                yield from self._piece(as_object(line.get("event")), parent)
            case "assistant":
                yield from self._assistant(line, parent)
            case "user":
                yield from self._user(line, parent)
            case "system":
                yield from self._system(line)
            case "result":
                yield from self._result(line)
            case "control_request":
                yield from self._request(line)
            case "control_response":
                yield from self._response(as_object(line.get("response")))
            case "rate_limit_event":
                yield from self._limits.take_claude(as_object(line.get("rate_limit_info")))
            case "command_lifecycle":
                yield from self._lifecycle(as_text(line.get("command_uuid")), line.get("state"))
            case "control_cancel_request":
                yield from self._permissions.cancelled(as_text(line.get("request_id")))
            case "tool_progress" | "keep_alive":
                pass
            case _:
                self.unknown += 1

    def _piece(self, event: Json, parent: str | None) -> Iterator[TurnEvent]:
        """A piece of the message that the model writes now. The pieces of subagents would mix: theirs come whole."""
        if parent is not None:
            return
        match event.get("type"):
            case "message_start":
                message = as_object(event.get("message"))
                self._streamed[parent] = as_text(message.get("id"))
                self._usage.message(self._streamed[parent], message.get("usage"), message.get("model"))
            case "message_delta" if parent in self._streamed:
                self._usage.message(self._streamed[parent], event.get("usage"))
            case "content_block_delta":
                delta = as_object(event.get("delta"))
                if text := as_text(delta.get("text")):
                    yield MessageChunk(speaker="agent", text=text)
                if thought := as_text(delta.get("thinking")):
                    yield MessageChunk(speaker="thought", text=thought)
            case "content_block_stop":
                yield MessageEnded()
            case _:
                pass

    def _assistant(self, line: Json, parent: str | None) -> Iterator[TurnEvent]:
        message = as_object(line.get("message"))
        identity = as_text(message.get("id"))
        self._usage.message(identity, message.get("usage"), message.get("model"))
        if parent is None and message.get("usage") is not None:
            self._last_message = [as_count(value) for value in as_object(message.get("usage")).values()]
        if parent is None:
            self._last_line = as_text(line.get("uuid"))
        if "error" in line:  # a text of the CLI in the place of a message of the model
            self._last_error = "".join(as_text(block.get("text")) for block in _blocks(message))
            self._error_kind = as_text(line.get("error"))
            return
        streamed = self._streamed.get(parent) == identity
        for block in _blocks(message):
            match block.get("type"):
                case "text" if not streamed:
                    yield from _message("agent", as_text(block.get("text")), parent)
                case "thinking" if not streamed:
                    yield from _message("thought", as_text(block.get("thinking")), parent)
                case "tool_use" | "server_tool_use" | "mcp_tool_use":
                    yield from self._tool_call(block, parent)
                case _:
                    pass

    def _tool_call(self, block: Json, parent: str | None) -> Iterator[TurnEvent]:
        name, identity = as_text(block.get("name")), as_text(block.get("id"))
        if name in TASK_TOOLS:
            self._task_calls[identity] = block, parent
        if name not in TASK_WRITERS:
            yield from self._shown_call(block, parent)

    def _shown_call(self, block: Json, parent: str | None) -> Iterator[TurnEvent]:
        name, arguments = as_text(block.get("name")), as_object(block.get("input"))
        identity = as_text(block.get("id"))
        self._calls[identity] = tools.title(arguments), parent
        yield ToolCall(
            id=identity,
            name=name,
            kind=tools.tool_kind(name),
            title=self._calls[identity][0],
            arguments=to_json(arguments),
            diffs=tools.diffs(name, arguments),
            parent=parent,
        )
        yield from self._permissions.shown(identity, parent)
        if name == "ExitPlanMode":
            yield from _message("agent", as_text(arguments.get("plan")), parent)

    def _user(self, line: Json, parent: str | None) -> Iterator[TurnEvent]:
        """The results of tools, and texts that the CLI adds to the conversation, or takes."""
        if line.get("isReplay"):
            yield from self._steered(as_text(line.get("uuid")))
            return
        for block in _blocks(as_object(line.get("message"))):
            match block.get("type"):
                case "tool_result":
                    yield from self._tool_result(block, as_object(line.get("tool_use_result")), parent)
                case "text":
                    yield from _message("user", as_text(block.get("text")), parent)
                case _:
                    pass

    def _tool_result(self, block: Json, structured: Json, parent: str | None) -> Iterator[TurnEvent]:
        identity = as_text(block.get("tool_use_id"))
        if not block.get("is_error"):
            yield from self._check_ran(identity)
        if identity in self._task_calls:
            call, parent = self._task_calls.pop(identity)
            name = as_text(call.get("name"))
            if self._tasks.take(name, as_object(call.get("input")), structured):
                self._plan_parent = parent
                return
            if name in TASK_WRITERS:
                yield from self._shown_call(call, parent)
        text, images = tools.result_text(block.get("content"))
        status = "failed" if block.get("is_error") else "completed"
        yield ToolCallEnded(id=identity, status=status, text=text, images=images, parent=parent)

    def _lifecycle(self, identity: str, state: object) -> Iterator[TurnEvent]:
        """The state of a text, which newer versions report as soon as it changes."""
        if state in ("started", "completed"):
            yield from self._steered(identity)
        elif state == "cancelled":
            self._steers.pop(identity, None)

    def _steered(self, identity: str) -> Iterator[TurnEvent]:
        """The CLI has taken a text, or something else. A text that it takes after an interrupt is interrupted, too:
        versions before 2.1.219 begin a turn for it."""
        if identity not in self._steers:
            return
        yield Steered(id=UUID(identity), text=self._steers.pop(identity))
        if self._interrupted:
            self._ask("interrupt", cancel_queued=True)

    def _system(self, line: Json) -> Iterator[TurnEvent]:
        match line.get("subtype"):
            case "init":
                self._turn_runs = True
                self._usage.model = printable(as_text(line.get("model")))[:256] or None
                self._started = TurnStarted(
                    conversation=as_text(line.get("session_id")),
                    model=as_text(line.get("model")),
                    folder=as_text(line.get("cwd")),
                    permission_mode=as_text(line.get("permissionMode")),
                    version=as_text(line.get("claude_code_version")),
                )
                yield self._started
                yield from self._check_mode(self._started)
            case "api_retry":
                yield _notice("retry", retry_text(line))
            case "compact_boundary":
                yield _notice("compaction", "The conversation was compacted: its older part is now a summary.")
            case "status" if line.get("permissionMode"):
                yield _notice("permission_mode", f"Permission mode: {as_text(line.get('permissionMode'))}")
            case "informational":
                yield _notice("information", as_text(line.get("content") or line.get("message")))
            case "permission_denied":
                identity = as_text(line.get("tool_use_id"))
                title, _ = self._calls.get(identity, ("", None))
                name, reason = as_text(line.get("tool_name")), as_text(line.get("message"))
                yield from self._permissions.deny(identity, name, title, reason)
            case "task_started" if line.get("task_type") == "local_agent":
                self._subagents.add(as_text(line.get("task_id")))
                if line.get("is_backgrounded"):
                    self._agent_calls[as_text(line.get("task_id"))] = as_text(line.get("tool_use_id"))
            case "task_started" if line.get("task_type") == "local_bash":
                self._shells[as_text(line.get("task_id"))] = as_text(line.get("description"))
            case "task_updated":
                if as_object(line.get("patch")).get("status") not in (None, "running", "pending"):
                    self._task_ended(as_text(line.get("task_id")))
            case "task_notification":
                self._task_ended(as_text(line.get("task_id")))
            case "background_tasks_changed":
                tasks = as_objects(line.get("tasks"))
                self._subagents = {
                    as_text(task.get("task_id")) for task in tasks if task.get("task_type") == "local_agent"
                }
            case _:
                self.unknown += line.get("subtype") not in _SILENT

    def _take_context(self, result: Json) -> None:
        """Note how much of the model's context the conversation takes: what the last message has read and written."""
        window = max((as_count(model.get("contextWindow")) for model in _models(result)), default=0)
        if self._last_message and window:
            self._context = min(sum(self._last_message), 2**53), window

    def _check_mode(self, started: TurnStarted) -> Iterator[TurnEvent]:
        """Interrupt a turn in a mode that goes further than the one that was asked for."""
        mode = self._permission_mode
        if mode is not None and self._stopped is None and goes_further(started.permission_mode, mode):
            reported = started.permission_mode
            yield from self._stop(f"Stopped: Claude Code goes further ({reported}) than the permission mode {mode}.")

    def _task_ended(self, identity: str) -> None:
        self._subagents.discard(identity)
        self._agent_calls.pop(identity, None)
        self._shells.pop(identity, None)

    def _request(self, line: Json) -> Iterator[TurnEvent]:
        """A request of the CLI. One that is not known is answered with an error."""
        request_id, request = as_text(line.get("request_id")), as_object(line.get("request"))
        match request.get("subtype"):
            case "hook_callback" if request.get("callback_id") == _BEFORE_TOOL:
                yield from self._permissions.before_tool(request_id, as_object(request.get("input")))
            case "can_use_tool":
                yield from self._permissions.can_use_tool(request_id, request)
            case "elicitation":
                yield from self._permissions.elicitation(request_id, request)
            case _:
                self.unknown += 1
                error = "This host does not support the request."
                response = {"subtype": "error", "request_id": request_id, "error": error}
                self._send({"type": "control_response", "response": response})

    def _check_ran(self, identity: str) -> Iterator[TurnEvent]:
        """Interrupt a turn in which a tool ran that was not compared with the rules, for example because a policy of
        the machine shuts off hooks."""
        if self._permissions.ran_unchecked(identity) and self._stopped is None:
            title, _ = self._calls.get(identity, ("", None))
            yield from self._stop(f"Stopped: Claude Code ran a tool before the rules could deny it: {title}")

    def _stop(self, reason: str) -> Iterator[TurnEvent]:
        """Interrupt a turn that goes further than it may."""
        self._stopped = reason
        self.interrupt()
        yield _notice("permission_mode", reason)

    def _answer(self, request_id: str, answer: Json) -> None:
        response = {"subtype": "success", "request_id": request_id, "response": answer}
        self._send({"type": "control_response", "response": response})

    def _response(self, response: Json) -> Iterator[TurnEvent]:
        """An answer to a request of ours. The prompt is sent only when the permission mode is in force."""
        refused = response.get("subtype") == "error"
        if self._mode_request is not None and response.get("request_id") == self._mode_request:
            self._mode_request = None
            if self._interrupted:
                yield self._end_unsent("interrupted", INTERRUPTED)
            elif refused:
                reason = as_text(response.get("error"))
                error = f"Claude Code refused the permission mode {self._permission_mode}: {reason}"
                yield self._end_unsent("failed", error)
            else:
                for line in (self._prompt, *self._unsent):
                    self._send(line)
        elif refused:
            yield _notice("information", f"Claude Code refused a request: {as_text(response.get('error'))}")
        cancelled = as_object(response.get("response")).get("cancelled")
        for identity in cast("list[object]", cancelled) if isinstance(cancelled, list) else []:
            self._steers.pop(as_text(identity), None)

    def _end_unsent(self, outcome: TurnOutcome, error: str) -> TurnEnded:
        """End the turn without its prompt."""
        self.outcome, self._error, self._turn_runs = outcome, error, False
        self._steers.clear()
        return TurnEnded(outcome=outcome, error=error, seconds=0.0)

    def _result(self, line: Json) -> Iterator[TurnEvent]:
        """A turn has ended. One that did nothing and failed does not undo the outcome of the turn before it."""
        for denial in as_objects(line.get("permission_denials")):
            identity, name = as_text(denial.get("tool_use_id")), as_text(denial.get("tool_name"))
            title = tools.title(as_object(denial.get("tool_input")))
            yield from self._permissions.deny(identity, name, title, "not allowed")
        yield from self._permissions.take_untold()
        self._turn_runs = as_count(line.get("queued_turn_count")) > 0
        self._usage.result(line)
        self._seconds += (as_number(line.get("duration_ms")) or 0.0) / 1000
        self._take_context(line)
        outcome, error = outcome_of(line, self._last_error)
        if error is not None:
            error = with_mend(error, self._error_kind)
        if self._stopped is not None:
            outcome, error = "failed", self._stopped
        if error is not None and _FORGOTTEN in error:
            self._forgotten = True
            error = f"Claude Code does not know this conversation any more. {BEGIN_ANEW}"
        if self.outcome is None or outcome == "completed" or as_count(line.get("num_turns")) > 0:
            self.outcome, self._error = outcome, error
            untouched = not self._calls and not (self.usage and self.usage.output_tokens)
            self._limits.end_turn(
                at_limit=outcome == "failed" and self._error_kind == "rate_limit", untouched=untouched
            )
        self._last_error, self._error_kind = "", ""
        if structured := as_object(line.get("structured_output")):
            yield StructuredAnswer(text=to_json(structured))
        if self.input_complete:
            for shell in self._shells.values():
                yield _notice("background", f"This ends with the command: {shell}")
            self._shells = {}
        yield TurnEnded(outcome=self.outcome, error=self._error, seconds=self._seconds, usage=self.usage)


def _user_line(identity: UUID, content: str | list[Json]) -> Json:
    message = {"role": "user", "content": content}
    return {"type": "user", "message": message, "parent_tool_use_id": None, "uuid": str(identity)}


_SILENT: tuple[object, ...] = (
    *("status", "task_started", "task_progress", "session_state_changed", "plugin_install", "worker_shutting_down"),
    *("hook_started", "hook_progress", "hook_response"),
)
"""Kinds of system lines that show nothing."""


def _notice(kind: NoticeKind, text: str) -> Notice:
    return Notice(kind=kind, text=text)


def _message(speaker: Speaker, text: str, parent: str | None) -> Iterator[TurnEvent]:
    if text:
        yield MessageChunk(speaker=speaker, text=text, parent=parent)
        yield MessageEnded(parent=parent)


def _blocks(message: Json) -> list[Json]:
    content = message.get("content")
    return [{"type": "text", "text": content}] if isinstance(content, str) else as_objects(content)


def _models(result: Json) -> list[Json]:
    return [as_object(model) for model in as_object(result.get("modelUsage")).values()]
