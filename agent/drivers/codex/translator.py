"""Translates the protocol of Codex's app-server: its output into events of a turn, and requests into lines. No I/O.

The protocol is JSON-RPC 2.0 without the member `jsonrpc`, one object a line; `codex app-server generate-json-schema`
prints its types. A run initializes the server, starts or resumes a thread, and starts one turn. Unknown messages are
counted and passed over. As seen with version 0.171.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID, uuid4

import msgspec

from onsembl.agent.drivers.codex import items, requests, steers
from onsembl.agent.drivers.codex.permissions import STARTS, ModeStart
from onsembl.agent.drivers.codex.steers import Steers
from onsembl.agent.drivers.codex.usage import UsageCounter
from onsembl.agent.drivers.json_lines import (
    Json,
    as_id,
    as_object,
    as_objects,
    as_text,
)
from onsembl.agent.drivers.json_rpc import JsonRpc, Message, Notification, Refusal, Request, Result, Unknown
from onsembl.agent.drivers.rate_limits import RateLimits
from onsembl.agent.drivers.rule_decisions import decide, stop_text
from onsembl.agent.drivers.start_failure import with_doctor
from onsembl.agent.drivers.step_recorder import short
from onsembl.protocol.attention_messages import Allow, Decision, Deny
from onsembl.protocol.permissions import PermissionMode
from onsembl.protocol.request_events import RequestOpened, RequestWithdrawn
from onsembl.protocol.tool_rules import NO_RULES, ToolRules
from onsembl.protocol.turn_events import (
    MessageChunk,
    MessageEnded,
    Notice,
    PermissionDenied,
    Plan,
    Speaker,
    Steered,
    ToolCall,
    ToolCallEnded,
    TurnEnded,
    TurnEvent,
    TurnOutcome,
    TurnStarted,
)
from onsembl.protocol.turn_messages import MAX_DENIALS, Denial, Effort, TurnReport
from onsembl.protocol.usage import Usage

_INTERRUPTED = "The turn was interrupted."
_FORGOTTEN = ("no rollout found", "thread not found")
_DELTAS: dict[str, Speaker] = {
    "item/agentMessage/delta": "agent",
    "item/plan/delta": "agent",
    "item/reasoning/summaryTextDelta": "thought",
    "item/reasoning/textDelta": "thought",
}
_SILENT = frozenset(
    {
        *("warning", "thread/started", "thread/status/changed", "thread/readState/changed"),
        *("thread/settings/updated", "thread/name/updated", "turn/started", "turn/diff/updated", "hook/started"),
        *("hook/completed", "remoteControl/status/changed", "deprecationNotice"),
        *("item/commandExecution/outputDelta", "item/fileChange/outputDelta", "item/fileChange/patchUpdated"),
        *("item/reasoning/summaryPartAdded", "item/commandExecution/terminalInteraction", "skills/changed"),
        *("account/updated", "mcpServer/startupStatus/updated", "thread/queue/changed", "thread/goal/updated"),
    }
)
"""Notifications that show nothing: the result of a command comes with the end of its item."""


_END_COMMANDS = "thread/backgroundTerminals/clean"


class CodexTranslator:
    """One run of Codex, for one prompt; a `Translator` and a `Steering` of `onsembl.agent.drivers.turn_run`.

    `known` is Codex's own id of the thread that the prompt continues, `fork_of` that of which a new one is a copy; with
    neither, a new one begins. `on_conversation` is called with a new thread's id before the prompt is sent. `images`
    are the paths of the images that go with the prompt.
    """

    def __init__(
        self,
        prompt: str,
        *,
        folder: str,
        known: str | None,
        fork_of: str | None,
        mode: PermissionMode,
        model: str | None,
        effort: Effort | None,
        on_conversation: Callable[[str], None],
        images: Sequence[str] = (),
        schema: Json | None = None,
        rules: ToolRules = NO_RULES,
    ) -> None:
        self._input: list[Json] = [{"type": "text", "text": prompt}]
        self._input += [{"type": "localImage", "path": image} for image in images]
        self._schema: Json = {"outputSchema": schema} if schema is not None else {}
        self._folder = folder
        self._known = known
        self._fork_of = fork_of
        self._start: ModeStart = STARTS[mode]
        self._wanted_model = model
        self._effort: Effort | None = effort
        self._on_conversation = on_conversation
        self._rules = rules
        self._checked: set[str] = set()
        """The tool calls of which Codex has asked."""
        self._stopped: str | None = None
        """Why the turn was stopped, if a denied call has run."""
        self._rpc = JsonRpc(versioned=False)
        self._thread = ""
        self._turn = ""
        self._model: str | None = None
        self._rerouted = ""
        """The model to which Codex has moved the turn, if any."""
        self._version = ""
        self._home = ""
        """Codex's home folder, as it has told it."""
        self._interrupted = False
        self._ended = False
        self._unshown: list[TurnEvent] = []
        """The end of a turn without a prompt."""
        self._calls: dict[str, ToolCall] = {}
        """The tool calls without a result, those of subagents included."""
        self._subagents: dict[str, str] = {}
        """The threads of subagents, each with the id of the call that began it."""
        self._asked: dict[UUID, tuple[Request, str]] = {}
        """The requests that wait for a person, each with the title of its call."""
        self._changes: dict[str, list[str]] = {}
        """The files that each of them changes."""
        self._denied: dict[str, Denial] = {}
        self._streamed: set[str] = set()
        """The messages whose pieces were shown as they came."""
        self._writing: str | None = None
        self._steers = Steers(self._rpc)
        self._usage = UsageCounter()
        self._acted = False
        """Whether a tool was called."""
        self._forgotten = False
        self._limits = RateLimits()
        self._prompt_seen = False
        self.outcome: TurnOutcome | None = None
        self._error: str | None = None
        self.unknown = 0
        """How many messages were of an unknown kind."""
        self._rpc.ask(
            "initialize",
            self._initialized,
            clientInfo={"name": "onsembl", "title": "Onsembl Control Center", "version": "1"},
            capabilities={"experimentalApi": True},
        )

    # For the driver

    def receive(self, data: bytes) -> list[TurnEvent]:
        """Translate output, which may be cut anywhere."""
        return [event for message in self._rpc.receive(data) for event in self._take(message)]

    def end(self) -> list[TurnEvent]:
        """Translate the last line at the end of the output, and end what is open."""
        events = [event for message in self._rpc.end() for event in self._take(message)]
        return [*events, *self._end_message(), *self._unshown]

    def interrupt(self) -> None:
        """Ask Codex to end the turn; the thread stays. A prompt that was not sent yet is not sent any more."""
        self._interrupted = True
        for request, _ in self._asked.values():
            self._rpc.answer(request, requests.result_of(request.method, request.params, None))
        self._asked.clear()
        if self._turn:
            self._ask_to_interrupt()
        elif not self._rpc.waits_for("turn/start"):
            self._unshown += self._end("interrupted", _INTERRUPTED)

    def steer(self, steer_id: UUID, text: str) -> None:
        """Give Codex a text for the running turn."""
        self._steers.add(steer_id, text, self._thread, self._turn)

    def answer(self, request_id: UUID, decision: Decision, denial: str) -> list[TurnEvent] | None:
        """Give Codex the decision on a request that was opened by an event; None when it does not wait any more.
        `denial` is shown if it is one.

        Codex takes no reason with a denial: the server sends it as a text for the turn.
        """
        if (asked := self._asked.pop(request_id, None)) is None:
            return None
        request, title = asked
        self._rpc.answer(request, requests.result_of(request.method, request.params, decision))
        if not isinstance(decision, Deny):
            return []
        return list(self._deny(request, title, denial))

    def drop_steers(self) -> None:
        """Wait no longer for Codex to take the texts that it has not taken."""
        self._steers.drop()

    def take_input(self) -> bytes:
        """The bytes for Codex's input since the last call."""
        return self._rpc.take_input()

    @property
    def idle(self) -> bool:
        """Whether the turn has ended."""
        return self._ended

    @property
    def input_complete(self) -> bool:
        """Whether the turn has ended, and its commands after an interrupt: Codex ends when its input is closed."""
        return self._ended and not self._steers.open and not self._rpc.waits_for(_END_COMMANDS)

    @property
    def usage(self) -> Usage | None:
        """The tokens of the turn so far; None before any were reported. Codex reports no cost."""
        return self._usage.usage(self._model, 1 if self._ended else None)

    @property
    def error(self) -> str | None:
        """The error of the turn, if it has one."""
        return self._error

    @property
    def report(self) -> TurnReport:
        """What Codex has said of the turn and its thread."""
        context = self._usage.context
        return TurnReport(
            conversation=as_id(self._thread),
            model=self._model,
            folder=self._folder.replace("\0", "")[:4096],
            permission_mode=self._start.shown,
            context_tokens=context[0] if context is not None else None,
            context_window=context[1] if context is not None else None,
            denied=len(self._denied),
            denials=list(self._denied.values())[:MAX_DENIALS],
            forgotten=self._forgotten,
            windows=self._limits.windows,
            limit=self._limits.limit,
        )

    # The steps before the turn

    def _initialized(self, answer: Json) -> Iterator[TurnEvent]:
        self._version = short(as_text(answer.get("userAgent")))
        self._home = as_text(answer.get("codexHome"))
        self._rpc.notify("initialized")
        settings: Json = {
            "cwd": self._folder,
            "approvalPolicy": self._start.approval,
            "approvalsReviewer": self._start.reviewer,
            "sandbox": self._start.sandbox,
        }
        if self._wanted_model is not None:
            settings["model"] = self._wanted_model
        if self._known is not None:
            self._rpc.ask("thread/resume", self._opened, threadId=self._known, excludeTurns=True, **settings)
        elif self._fork_of is not None:
            self._rpc.ask("thread/fork", self._opened, threadId=self._fork_of, excludeTurns=True, **settings)
        else:
            self._rpc.ask("thread/start", self._opened, **settings)
        yield from ()

    def _opened(self, answer: Json) -> Iterator[TurnEvent]:
        self._thread = as_text(as_object(answer.get("thread")).get("id"))
        self._model = short(as_text(answer.get("model"))) or None
        if self._known is None:
            self._on_conversation(self._thread)
        if self._ended:
            return
        effort = {"effort": _EFFORTS[self._effort]} if self._effort is not None else {}
        self._rpc.ask(
            "turn/start", self._turn_started, threadId=self._thread, input=self._input, **effort, **self._schema
        )
        yield TurnStarted(
            conversation=self._thread,
            model=self._model or "",
            folder=self._folder,
            permission_mode=self._start.shown,
            version=self._version,
        )

    def _turn_started(self, answer: Json) -> Iterator[TurnEvent]:
        self._turn = as_text(as_object(answer.get("turn")).get("id"))
        if self._interrupted:
            self._ask_to_interrupt()
        self._steers.send_all(self._thread, self._turn)
        yield from ()

    def _ask_to_interrupt(self) -> None:
        self._rpc.ask("turn/interrupt", _nothing, threadId=self._thread, turnId=self._turn)

    def _end(self, outcome: TurnOutcome, error: str | None) -> Iterator[TurnEvent]:
        if not self._ended:
            self._ended = True
            self.outcome, self._error = outcome, error
            self._steers.end_turn()
            for id in self._asked:
                yield RequestWithdrawn(id=id, reason="The turn has ended.")
            self._asked.clear()
            yield TurnEnded(outcome=outcome, error=error, usage=self.usage)

    # Messages of Codex

    def _take(self, message: Message) -> Iterator[TurnEvent]:
        match message:
            case Unknown(text) if text is not None:
                yield Notice(kind="unknown_output", text=text)
            case Notification(method, params):
                if self._thread and (thread := as_text(params.get("threadId"))) not in ("", self._thread):
                    yield from self._subagent_notification(thread, method, params)
                elif not self._ended:
                    yield from self._notification(method, params)
            case Request():
                yield from self._request(message)
            case Result(resume, value):
                yield from resume(value)
            case Refusal(number, method, error):
                yield from self._refused(number, method, short(as_text(error.get("message"))))
            case _:
                self.unknown += 1

    def _refused(self, number: int, method: str, text: str) -> Iterator[TurnEvent]:
        """An error in the place of an answer. A refused interrupt came too late, as a refused text did."""
        if method == steers.METHOD:
            self._steers.refused(number)
        elif method not in ("turn/interrupt", _END_COMMANDS):
            if method in ("thread/resume", "thread/fork") and any(known in text for known in _FORGOTTEN):
                self._forgotten = method == "thread/resume"
                text = "Codex does not know this conversation any more. Begin a new one."
            yield from self._end("failed", text or f"Codex refused {method}.")

    def _request(self, request: Request) -> Iterator[TurnEvent]:
        """A request of Codex: the agent allows what its mode allows, and asks a person about anything else."""
        method, params = request.method, request.params
        identity = as_text(params.get("itemId"))
        call = self._calls.get(identity)
        if method not in requests.METHODS:
            self.unknown += 1
            self._rpc.reject(request)
        elif self._ended or self._interrupted:
            self._rpc.answer(request, requests.result_of(method, params, None))
        else:
            self._checked.add(identity)
            title = call.title if call is not None else items.title(params)
            paths = self._changes.get(identity, [])
            body = requests.body_of(method, params, call, paths, self._folder, self._home)
            decision = decide(self._rules, body)
            if decision is not None and decision.verdict == "deny":
                self._rpc.answer(request, requests.result_of(method, params, Deny()))
                yield from self._deny(request, title, f"by rule {decision.rule}")
            elif method in (requests.COMMAND, requests.EDIT) and self._allows(identity, params):
                self._rpc.answer(request, requests.result_of(method, params, Allow()))
            elif decision is not None and not params.get("grantRoot"):  # which allows more than this call
                self._rpc.answer(request, requests.result_of(method, params, Allow()))
                text = f"Allowed by rule {decision.rule}: {requests.tool_name(method, params)} {title}"
                yield Notice(kind="permission_mode", text=text)
            elif body is None:
                self._rpc.answer(request, requests.result_of(method, params, Deny()))
                yield from self._deny(request, title, "the request cannot be shown")
            else:
                id = uuid4()
                self._asked[id] = request, title
                shown = requests.title_of(body, method, params, title)
                parent = call.parent if call is not None else None
                yield RequestOpened(id=id, tool_call=identity, title=shown, body=body, parent=parent)

    def _allows(self, identity: str, params: Json) -> bool:
        """Whether the mode allows a change of files."""
        inside = requests.stays_in(self._folder, self._changes.get(identity, []))
        return self._start.accepts_edits and inside and not params.get("grantRoot")

    def _resolved(self, number: object) -> Iterator[TurnEvent]:
        """A request is not open any more. It was answered elsewhere, unless it was answered here."""
        for id, (request, _) in list(self._asked.items()):
            if request.number == number:
                del self._asked[id]
                yield RequestWithdrawn(id=id, reason="Codex has given the question up.")

    def _deny(self, request: Request, title: str, reason: str) -> Iterator[TurnEvent]:
        identity = as_text(request.params.get("itemId")) or str(request.number)
        if identity not in self._denied and not self._ended:
            name = requests.tool_name(request.method, request.params)
            self._denied[identity] = Denial(tool=name, title=short(title))
            call = self._calls.get(identity)
            parent = call.parent if call is not None else None
            yield PermissionDenied(tool_call=identity, name=name, title=title, reason=reason, parent=parent)

    def _notification(self, method: str, params: Json) -> Iterator[TurnEvent]:
        if method in _DELTAS:
            identity = as_text(params.get("itemId"))
            if self._writing != identity:
                yield from self._end_message()
            if text := as_text(params.get("delta")):
                self._writing = identity
                self._streamed.add(identity)
                yield MessageChunk(speaker=_DELTAS[method], text=text)
            return
        match method:
            case "item/started":
                yield from self._item_started(as_object(params.get("item")))
            case "item/completed":
                yield from self._item_completed(as_object(params.get("item")))
            case "serverRequest/resolved":
                yield from self._resolved(params.get("requestId"))
            case "turn/plan/updated":
                yield from self._end_message()
                yield Plan(entries=items.plan(params))
            case "turn/completed":
                yield from self._turn_completed(as_object(params.get("turn")))
            case "thread/tokenUsage/updated" if params.get("turnId") != self._turn:
                pass  # of the turn before, told when a thread is resumed
            case "thread/tokenUsage/updated":
                self._count(params, own=True)
            case "thread/compacted":
                yield from self._compacted()
            case "model/rerouted":
                self._rerouted = as_text(params.get("toModel"))
                yield Notice(kind="information", text=f"Codex uses the model {self._rerouted}.")
            case "configWarning":  # without details it is about the machine
                if details := as_text(params.get("details")):
                    yield Notice(kind="information", text=f"{as_text(params.get('summary'))} {details}".strip())
            case "error" if params.get("willRetry"):
                yield Notice(kind="retry", text=as_text(as_object(params.get("error")).get("message")))
            case "account/rateLimits/updated":
                yield from self._limits.take_codex(as_object(params.get("rateLimits")))
            case _:
                self.unknown += method not in _SILENT and method != "error"

    def _subagent_notification(self, thread: str, method: str, params: Json) -> Iterator[TurnEvent]:
        """A notification of another thread than that of the turn. Messages come whole: pieces of several at a time
        would make many short ones."""
        if method == "thread/tokenUsage/updated":
            self._count(params, own=False)
        elif not self._ended and method == "serverRequest/resolved":
            yield from self._resolved(params.get("requestId"))
        elif not self._ended and method in ("item/started", "item/completed"):
            item, parent = as_object(params.get("item")), self._begun_by(thread)
            speaker: Speaker = "thought" if item.get("type") == "reasoning" else "agent"
            if (text := items.task(item) if method == "item/started" else "") and parent is not None:
                yield from self._whole_message("user", text, parent)
            elif (text := items.message(item) if method == "item/completed" else "") and parent is not None:
                yield from self._whole_message(speaker, text, parent)
            elif items.tool_call(item) is not None:
                yield from self._tool(method, item, parent)

    def _begun_by(self, thread: str) -> str | None:
        """The call that began a subagent. Its end, which names the thread, may come after the subagent's first item."""
        if thread not in self._subagents:
            begun = self._subagents.values()
            calls = [call.id for call in self._calls.values() if call.name == items.SUBAGENT and call.id not in begun]
            if not calls:
                return None
            self._subagents[thread] = calls[0]
        return self._subagents[thread]

    def _tool(self, method: str, item: Json, parent: str | None = None) -> Iterator[TurnEvent]:
        """The begin or the end of a tool call; the end of one that was not announced is both."""
        yield from self._tool_started(item, parent)
        if method == "item/completed":
            self._subagents.update(dict.fromkeys(items.begun_threads(item), as_text(item.get("id"))))
            if (identity := as_text(item.get("id"))) in self._calls:
                yield from self._end_message()
                if item.get("status") != "declined":
                    yield from self._check_unasked(self._calls[identity])
                yield self._end_call(identity, item)

    def _item_started(self, item: Json) -> Iterator[TurnEvent]:
        if item.get("type") == "userMessage":
            yield from self._message_taken(item)
        else:
            yield from self._tool("item/started", item)

    def _tool_started(self, item: Json, parent: str | None) -> Iterator[TurnEvent]:
        if (call := items.tool_call(item)) is not None and call.id not in self._calls:
            yield from self._end_message()
            self._calls[call.id] = call = msgspec.structs.replace(call, parent=parent)
            self._acted = True
            self._changes[call.id] = items.paths(item)
            yield call
            if item.get("type") not in ("commandExecution", "fileChange") or item.get("processId") is not None:
                yield from self._check_unasked(call)

    def _message_taken(self, item: Json) -> Iterator[TurnEvent]:
        """A message of a person is part of the turn now: the prompt, or a text that was sent while the turn ran."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        text = "".join(as_text(part.get("text")) for part in as_objects(item.get("content")))
        if (taken := self._steers.take(text)) is not None:
            yield from self._end_message()
            yield Steered(id=taken, text=text)

    def _item_completed(self, item: Json) -> Iterator[TurnEvent]:
        identity = as_text(item.get("id"))
        match item.get("type"):
            case "agentMessage" | "plan":
                yield from self._message(identity, "agent", as_text(item.get("text")))
            case "reasoning":
                yield from self._message(identity, "thought", items.thought(item))
            case "contextCompaction":
                yield from self._compacted()
            case _:
                yield from self._tool("item/completed", item)

    def _check_unasked(self, call: ToolCall) -> Iterator[TurnEvent]:
        """Stop the turn if Codex runs a call without asking which a rule denies."""
        if call.id in self._checked or self._stopped is not None or self._interrupted:
            return
        rule = self._rules.denial(requests.use_of(call, self._changes.get(call.id, []), self._folder))
        if rule is not None:
            self._stopped = stop_text("Codex", f"{call.name} {call.title}".rstrip(), rule)
            for id in self._asked:
                yield RequestWithdrawn(id=id, reason="The turn is stopped.")
            self.interrupt()

    def _count(self, params: Json, *, own: bool) -> None:
        self._usage.count(as_object(params.get("tokenUsage")), self._rerouted or self._model or "", own=own)

    def _compacted(self) -> Iterator[TurnEvent]:
        yield from self._end_message()
        yield Notice(kind="compaction", text="The conversation was compacted: its older part is now a summary.")

    def _whole_message(self, speaker: Speaker, text: str, parent: str) -> Iterator[TurnEvent]:
        yield from self._end_message()
        yield MessageChunk(speaker=speaker, text=text, parent=parent)
        yield MessageEnded(parent=parent)

    def _message(self, identity: str, speaker: Speaker, text: str) -> Iterator[TurnEvent]:
        """A whole message, whose pieces may have been shown."""
        if identity not in self._streamed and text:
            yield from self._end_message()
            yield MessageChunk(speaker=speaker, text=text)
            self._writing = identity
        yield from self._end_message()

    def _end_message(self) -> Iterator[TurnEvent]:
        if self._writing is not None:
            self._writing = None
            yield MessageEnded()

    def _end_call(self, identity: str, item: Json) -> ToolCallEnded:
        call = self._calls.pop(identity)
        status = "completed" if item.get("status") == "completed" else "failed"
        return ToolCallEnded(id=identity, status=status, text=items.result(item), parent=call.parent)

    def _turn_completed(self, turn: Json) -> Iterator[TurnEvent]:
        """The turn has ended. An item that was cut never ends by itself, and a command may outlive its turn."""
        if turn.get("id") != self._turn:
            return
        yield from self._end_message()
        for identity in list(self._calls):
            yield self._end_call(identity, {})
        if self._stopped is not None:
            self._rpc.ask(_END_COMMANDS, _nothing, threadId=self._thread)
            yield from self._end("failed", self._stopped)
            return
        error = as_object(turn.get("error"))
        match turn.get("status"):
            case "completed":
                yield from self._end("completed", None)
            case "interrupted":
                self._rpc.ask(_END_COMMANDS, _nothing, threadId=self._thread)  # an interrupt leaves them running
                yield from self._end("interrupted", _INTERRUPTED)
            case _:
                text = short(as_text(error.get("message"))) or "The turn failed."
                untouched = not self._acted and not (self.usage and self.usage.output_tokens)
                at_limit = error.get("codexErrorInfo") in ("usageLimitExceeded", "rateLimitExceeded")
                self._limits.end_turn(at_limit=at_limit, untouched=untouched)
                if error.get("codexErrorInfo") == "unauthorized":
                    text = with_doctor(f"Codex is not signed in: {text}")
                yield from self._end("failed", text)


_EFFORTS: dict[Effort, str] = {"low": "low", "medium": "medium", "high": "high", "max": "xhigh"}


def _nothing(_answer: Json) -> Iterator[TurnEvent]:
    yield from ()
