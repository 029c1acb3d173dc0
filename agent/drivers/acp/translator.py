"""Translates the Agent Client Protocol (ACP, version 1): a CLI's output into events of a turn, and requests into lines
for it. No I/O.

The protocol is JSON-RPC 2.0, one object a line: https://agentclientprotocol.com. A run initializes the CLI, signs in
when it has a key, opens the conversation, sets the permission mode, and sends one prompt. Unknown updates are counted
and passed over. As seen with Gemini CLI 0.61, OpenCode 1.18, claude-agent-acp 0.101 and codex-acp 2.6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID, uuid4

from onsembl.agent.drivers.acp import content, requests
from onsembl.agent.drivers.acp.clis import AcpCli
from onsembl.agent.drivers.json_lines import (
    Json,
    as_count,
    as_id,
    as_number,
    as_object,
    as_objects,
    as_text,
    to_json,
)
from onsembl.agent.drivers.json_rpc import JsonRpc, Message, Notification, Refusal, Request, Result, Unknown
from onsembl.agent.drivers.rate_limits import RateLimits
from onsembl.agent.drivers.request_bodies import form_title
from onsembl.agent.drivers.rule_decisions import decide, stop_text
from onsembl.agent.drivers.start_failure import with_doctor
from onsembl.agent.drivers.step_recorder import short
from onsembl.protocol.attention_messages import Allow, Decision, Deny, FilledForm
from onsembl.protocol.permissions import PermissionMode
from onsembl.protocol.request_events import RequestOpened, RequestWithdrawn
from onsembl.protocol.tool_rules import NO_RULES, ToolRules
from onsembl.protocol.turn_events import (
    Diff,
    MessageChunk,
    MessageEnded,
    Notice,
    PermissionDenied,
    Plan,
    Speaker,
    ToolCall,
    ToolCallEnded,
    TurnEnded,
    TurnEvent,
    TurnOutcome,
    TurnStarted,
)
from onsembl.protocol.turn_messages import MAX_DENIALS, Denial, TurnReport
from onsembl.protocol.usage import NOTHING, Usage

PROTOCOL_VERSION = 1
AUTHENTICATION_REQUIRED = -32000
RESOURCE_NOT_FOUND = -32002
TOO_MANY_REQUESTS = 429
"""Gemini CLI passes the HTTP status of its model's API on as the code."""
_INTERRUPTED = "The turn was interrupted."
_STOPPED: dict[str, str] = {
    "max_tokens": "The model has reached the longest answer that it may write.",
    "max_turn_requests": "The CLI has reached its limit of requests to the model in one turn.",
    "refusal": "The model refused the prompt.",
}
_SPEAKERS: dict[str, Speaker] = {"agent_message_chunk": "agent", "agent_thought_chunk": "thought"}
_OF_A_TURN = (*_SPEAKERS, "tool_call", "tool_call_update", "plan")
"""Updates that, before the prompt, belong to no turn of this run."""
_OF_A_KNOWN_CONVERSATION = ("session/load", "session/resume", "session/fork")
_SILENT = ("user_message_chunk", "available_commands_update", "config_option_update", "session_info_update")
"""Updates that show nothing. A `user_message_chunk` is the prompt, or belongs to a replay."""


class AcpTranslator:
    """One run of a CLI that speaks ACP, for one prompt; an `onsembl.agent.drivers.turn_run.Translator`.

    `known` is the CLI's own id of the conversation that the prompt continues; None begins one, and then
    `on_conversation` is called with its id before the prompt is sent. `fork_of` is the CLI's own id of the conversation
    of which a new one is a copy. `mcp_servers` are servers of tools for the CLI, as ACP names them, and `own_tools` the
    titles of calls of the agent's own tools, which need no permission.
    """

    def __init__(
        self,
        cli: AcpCli,
        prompt: str,
        *,
        folder: str,
        known: str | None,
        fork_of: str | None,
        mode: PermissionMode | None,
        has_key: bool,
        on_conversation: Callable[[str], None],
        model: str | None = None,
        images: Sequence[tuple[str, str]] = (),
        mcp_servers: Sequence[Json] = (),
        own_tools: Sequence[str] = (),
        rules: ToolRules = NO_RULES,
    ) -> None:
        self._cli = cli
        self._prompt: list[Json] = [{"type": "text", "text": prompt}]
        self._images = images
        self._mcp_servers = [*mcp_servers]
        self._own_tools = own_tools
        self._folder = folder
        self._known = known
        self._fork_of = fork_of
        self._mode: PermissionMode | None = mode
        self._has_key = has_key
        self._cannot = _cannot(cli, mode, model)
        """Why the CLI cannot run this turn as it is to be run."""
        self._on_conversation = on_conversation
        self._rules = rules
        self._checked: set[str] = set()
        """The tool calls of which the CLI has asked."""
        self._stopped: str | None = None
        """Why the turn was stopped, if a denied call has run."""
        self._rpc = JsonRpc(versioned=True)
        self._version = ""
        self._session = ""
        self._sign_ins: list[Json] = []
        """The ways to sign in that the CLI offers."""
        self._replays = False
        self._after_replay: Json | None = None
        self._interrupted = False
        self._prompted = False
        self._ended = False
        self._unshown: list[TurnEvent] = []
        """The end of a turn without a prompt."""
        self._model: str | None = None
        self._current_mode = ""
        self._cost: float | None = None
        self._context: tuple[int, int] | None = None
        self._usage: Usage | None = None
        self._counted = NOTHING
        """The tokens that were told with pieces of messages, as Qwen Code tells those of each call of the model."""
        self._forgotten = False
        self._limits = RateLimits()
        self._acted = False
        """Whether the CLI has written or called anything in this turn."""
        self._calls: dict[str, Json] = {}
        """The tool calls without a result, each with the fields that were told of it so far."""
        self._shown: dict[str, list[Diff]] = {}
        """Those of them that were shown, with the changes that were shown."""
        self._asked: dict[UUID, tuple[Request, Json]] = {}
        """The requests that wait for a person, each with what is known of its call."""
        self._denied: dict[str, Denial] = {}
        self._speaker: Speaker | None = None
        self.outcome: TurnOutcome | None = None
        self._error: str | None = None
        self.unknown = 0
        """How many messages were of an unknown kind."""
        self._rpc.ask(
            "initialize",
            self._initialized,
            protocolVersion=PROTOCOL_VERSION,
            clientCapabilities=requests.CAPABILITIES,
            clientInfo={"name": "onsembl", "title": "Onsembl Control Center", "version": "1"},
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
        """Ask the CLI to end the turn; the conversation stays. A prompt that was not sent yet is not sent any more."""
        self._interrupted = True
        for request, _ in self._asked.values():
            self._rpc.answer(request, requests.result_of(request.method, request.params, None))
        self._asked.clear()
        if not self._prompted:
            self._unshown += self._end("interrupted", _INTERRUPTED)
        elif not self._ended:
            self._rpc.notify("session/cancel", sessionId=self._session)

    def answer(self, request_id: UUID, decision: Decision, denial: str) -> list[TurnEvent] | None:
        """Give the CLI the decision on a request that was opened by an event; None when it does not wait any more.
        `denial` is shown if it is one.

        The protocol has no place for the reason of a denial: the server sends it as the next command.
        """
        if (asked := self._asked.pop(request_id, None)) is None:
            return None
        request, call = asked
        result = requests.result_of(request.method, request.params, decision)
        self._rpc.answer(request, result)
        if isinstance(decision, Allow | FilledForm) and result != requests.CANCELLED:
            return []
        return [*self._deny(call, denial)]

    def take_input(self) -> bytes:
        """The bytes for the CLI's input since the last call."""
        return self._rpc.take_input()

    @property
    def input_complete(self) -> bool:
        """Whether the turn has ended: then the CLI ends when its input is closed."""
        return self._ended

    @property
    def usage(self) -> Usage | None:
        """The tokens and the cost of the turn; None before its end."""
        return self._usage

    @property
    def error(self) -> str | None:
        """The error of the turn, if it has one."""
        return self._error

    @property
    def report(self) -> TurnReport:
        """What the CLI has said of the turn and its conversation."""
        return TurnReport(
            conversation=as_id(self._session),
            model=self._model,
            folder=self._folder.replace("\0", "")[:4096],
            permission_mode=short(self._current_mode) or None,
            context_tokens=self._context[0] if self._context is not None else None,
            context_window=self._context[1] if self._context is not None else None,
            denied=len(self._denied),
            denials=list(self._denied.values())[:MAX_DENIALS],
            forgotten=self._forgotten,
            limit=self._limits.limit,
        )

    # The steps before the prompt

    def _initialized(self, answer: Json) -> Iterator[TurnEvent]:
        version = answer.get("protocolVersion")
        if version != PROTOCOL_VERSION:
            text = (
                f"{self._cli.name} speaks version {short(str(version))} of ACP; this agent speaks {PROTOCOL_VERSION}."
            )
            yield from self._end("failed", text)
            return
        self._version = short(as_text(as_object(answer.get("agentInfo")).get("version")))
        self._sign_ins = as_objects(answer.get("authMethods"))
        key_method = self._cli.key_method[0] if self._cli.key_method is not None and self._has_key else None
        if key_method in [as_text(method.get("id")) for method in self._sign_ins]:
            self._rpc.ask("authenticate", lambda _: self._open(answer), methodId=key_method)
        else:
            yield from self._open(answer)

    def _open(self, initialized: Json) -> Iterator[TurnEvent]:
        """Begin the conversation, or continue it: without a replay where the CLI can."""
        place: Json = {"cwd": self._folder, "mcpServers": self._mcp_servers}
        if self._cli.session_settings:
            place["_meta"] = self._cli.session_settings
        capabilities = as_object(initialized.get("agentCapabilities"))
        of_sessions = as_object(capabilities.get("sessionCapabilities"))
        if as_object(capabilities.get("promptCapabilities")).get("image") is True:  # else it has their paths
            self._prompt += [{"type": "image", "mimeType": kind, "data": data} for kind, data in self._images]
        if self._cannot is not None:
            yield from self._end("failed", self._cannot)
        elif self._known is None and self._fork_of is None:
            self._rpc.ask("session/new", self._opened, **place)
        elif self._known is None and "fork" in of_sessions:
            self._rpc.ask("session/fork", self._opened, sessionId=self._fork_of, **place)
        elif self._known is None:
            yield from self._end("failed", f"{self._cli.name} cannot fork a conversation. Begin a new one.")
        elif "resume" in of_sessions:
            self._session = self._known
            self._rpc.ask("session/resume", self._opened, sessionId=self._known, **place)
        elif capabilities.get("loadSession") is True:
            self._session, self._replays = self._known, True
            self._rpc.ask("session/load", self._opened, sessionId=self._known, **place)
        else:
            yield from self._end("failed", f"{self._cli.name} cannot continue a conversation. Begin a new one.")

    def _opened(self, answer: Json) -> Iterator[TurnEvent]:
        if self._replays and self._cli.replay_ends_with is not None:
            self._after_replay = answer  # the replay goes on
            return
        self._replays = False
        yield from self._begin(answer)

    def _begin(self, answer: Json) -> Iterator[TurnEvent]:
        if self._known is None:
            self._session = as_text(answer.get("sessionId"))
            self._on_conversation(self._session)
        modes, models = as_object(answer.get("modes")), as_object(answer.get("models"))
        self._model = short(as_text(models.get("currentModelId")) or _option(answer, "model")) or None
        self._current_mode = as_text(modes.get("currentModeId")) or _option(answer, "mode")
        wanted = self._cli.modes.get(self._mode) if self._mode is not None else None
        if wanted is None:
            yield from self._send_prompt()
        else:
            self._rpc.ask("session/set_mode", lambda _: self._mode_set(wanted), sessionId=self._session, modeId=wanted)

    def _mode_set(self, mode: str) -> Iterator[TurnEvent]:
        self._current_mode = mode
        option = self._cli.mode_options.get(self._mode) if self._mode is not None else None
        if option is None:
            yield from self._send_prompt()
        else:
            names = {"sessionId": self._session, "configId": option[0], "value": option[1]}
            self._rpc.ask("session/set_config_option", lambda _: self._send_prompt(), **names)

    def _send_prompt(self) -> Iterator[TurnEvent]:
        if self._ended:
            return
        yield TurnStarted(
            conversation=self._session,
            model=self._model or "",
            folder=self._folder,
            permission_mode=self._current_mode,
            version=self._version,
        )
        self._prompted = True
        self._rpc.ask(
            "session/prompt",
            self._answered,
            sessionId=self._session,
            prompt=self._prompt,
        )

    def _answered(self, answer: Json) -> Iterator[TurnEvent]:
        """The turn has ended."""
        yield from self._end_message()
        yield from self._end_calls()
        cost, partial = self._turn_cost(), not self._cli.counts_all
        self._usage = content.usage(answer, self._counted, self._model, cost_usd=cost, partial=partial)
        reason = as_text(answer.get("stopReason"))
        if self._stopped is not None:
            yield from self._end("failed", self._stopped)
        elif reason == "end_turn":
            yield from self._end("completed", None)
        elif reason == "cancelled":
            yield from self._end("interrupted", _INTERRUPTED)
        else:
            yield from self._end("failed", _STOPPED.get(reason) or f"The turn ended: {short(reason) or 'no reason'}.")

    def _turn_cost(self) -> float | None:
        """The cost of this turn. The CLIs tell that of the conversation so far, and none tells it before the turn."""
        begun = self._known is None and self._fork_of is None
        return self._cost if begun else None

    def _end(self, outcome: TurnOutcome, error: str | None) -> Iterator[TurnEvent]:
        if not self._ended:
            self._ended = True
            self.outcome, self._error = outcome, error
            for id in self._asked:
                yield RequestWithdrawn(id=id, reason="The turn has ended.")
            self._asked.clear()
            yield TurnEnded(outcome=outcome, error=error, usage=self._usage)

    # Messages of the CLI

    def _take(self, message: Message) -> Iterator[TurnEvent]:
        match message:
            case Unknown(text) if text is not None:
                yield Notice(kind="unknown_output", text=text)
            case Notification("session/update", params) if as_text(params.get("sessionId")) == self._session:
                yield from self._update(as_object(params.get("update")))
            case Notification("$/cancel_request", params):
                yield from self._given_up(params.get("requestId"))
            case Request():
                yield from self._request(message)
            case Result(resume, value):
                yield from resume(value)
            case Refusal(_, method, error):
                yield from self._refused(method, error)
            case _:
                self.unknown += 1

    def _refused(self, method: str, error: Json) -> Iterator[TurnEvent]:
        """An error in the place of an answer ends the turn."""
        yield from self._end_message()
        yield from self._end_calls()
        text = _error_text(error)
        self._limits.end_turn(at_limit=error.get("code") == TOO_MANY_REQUESTS, untouched=not self._acted)
        if error.get("code") == AUTHENTICATION_REQUIRED or method == "authenticate":
            text = self._not_signed_in(text)
        elif method in _OF_A_KNOWN_CONVERSATION:
            if error.get("code") == RESOURCE_NOT_FOUND or any(known in text for known in self._cli.forgotten):
                self._forgotten = True
                text = f"{self._cli.name} does not know this conversation any more. Begin a new one."
        elif method in ("session/set_mode", "session/set_config_option"):
            text = f"{self._cli.name} refused the permission mode {self._mode}: {text}"
        yield from self._end("failed", text)

    def _not_signed_in(self, text: str) -> str:
        """The error of a CLI that wants to be signed in, with the ways that it offers; the doctor knows Gemini's."""
        cause = f"{self._cli.name} is not signed in: {text}"
        ways = [as_text(method.get("description")) or as_text(method.get("name")) for method in self._sign_ins]
        if self._cli.key_method is not None or not any(ways):
            return with_doctor(cause)
        return short(f"{cause.rstrip('.')}. On the agent's machine: {'; or: '.join(filter(None, ways))}")

    def _request(self, request: Request) -> Iterator[TurnEvent]:
        """A request of the CLI. A person is asked for permission, or has a form; any other request is answered with an
        error."""
        if request.method not in (requests.PERMISSION, requests.FORM):
            self.unknown += 1
            self._rpc.reject(request)
        elif self._interrupted or self._ended:
            self._rpc.answer(request, requests.result_of(request.method, request.params, None))
        elif request.method == requests.FORM:
            yield from self._form(request)
        else:
            told = as_object(request.params.get("toolCall"))
            identity = as_text(told.get("toolCallId"))
            yield from self._call(identity, told, show=True)
            call = self._calls[identity]
            self._checked.add(identity)
            if call.get("kind") == "other" and call.get("title") in self._own_tools:
                self._rpc.answer(request, requests.result_of(request.method, request.params, Allow()))
                return
            title = f"{content.tool_kind(call)} {content.title(call)}"
            body = requests.body_of(call, self._shown[identity], self._folder)
            decision = decide(self._rules, body)
            allowed = requests.result_of(request.method, request.params, Allow())
            if decision is not None and decision.verdict == "deny":
                self._rpc.answer(request, requests.result_of(request.method, request.params, Deny()))
                yield from self._deny(call, f"by rule {decision.rule}")
            elif decision is not None and allowed != requests.CANCELLED:
                self._rpc.answer(request, allowed)
                text = f"Allowed by rule {decision.rule}: {title}"
                yield Notice(kind="permission_mode", text=text, parent=content.parent(call))
            else:
                id = uuid4()
                self._asked[id] = request, dict(call)
                yield RequestOpened(id=id, tool_call=identity, title=title, body=body, parent=content.parent(call))

    def _form(self, request: Request) -> Iterator[TurnEvent]:
        """A form for a person, during a tool call or between two."""
        identity = as_text(request.params.get("toolCallId")) or f"form-{request.number}"
        told: Json = {"toolCallId": identity, "title": short(as_text(request.params.get("message")))}
        call = self._calls.get(identity, told)
        if (body := requests.form_of(request.params)) is None:
            self._rpc.answer(request, requests.result_of(request.method, request.params, Deny()))
            yield from self._deny(call, "only forms can be shown")
        else:
            id = uuid4()
            self._asked[id] = request, dict(call)
            parent = content.parent(call)
            yield RequestOpened(id=id, tool_call=identity, title=form_title(body), body=body, parent=parent)

    def _given_up(self, number: object) -> Iterator[TurnEvent]:
        """The CLI does not wait for a request any more. It gets an answer, as each request does."""
        for id, (request, _) in list(self._asked.items()):
            if request.number == number:
                del self._asked[id]
                self._rpc.answer(request, requests.result_of(request.method, request.params, None))
                yield RequestWithdrawn(id=id, reason=f"{self._cli.name} has given the question up.")

    def _deny(self, call: Json, reason: str) -> Iterator[TurnEvent]:
        """Note a denial, once for each call."""
        identity, name, title = as_text(call.get("toolCallId")), content.tool_kind(call), content.title(call)
        if identity not in self._denied:
            self._denied[identity] = Denial(tool=name, title=short(title))
            parent = content.parent(call)
            yield PermissionDenied(tool_call=identity, name=name, title=title, reason=reason, parent=parent)

    def _check_unasked(self, identity: str) -> Iterator[TurnEvent]:
        """Stop the turn if the CLI has run a call without asking which a rule denies."""
        if identity in self._checked or self._stopped is not None or self._interrupted or not self._prompted:
            return
        call = self._calls[identity]
        rule = self._rules.denial(requests.use_of(call, self._shown[identity], self._folder))
        if rule is not None:
            title = f"{content.tool_kind(call)} {content.title(call)}"
            self._stopped = stop_text(self._cli.name, title.rstrip(), rule)
            for id in self._asked:
                yield RequestWithdrawn(id=id, reason="The turn is stopped.")
            self.interrupt()

    def _update(self, update: Json) -> Iterator[TurnEvent]:
        kind = as_text(update.get("sessionUpdate"))
        if self._ended:
            return
        if self._replays:
            if self._after_replay is not None and kind == self._cli.replay_ends_with:
                answer, self._after_replay, self._replays = self._after_replay, None, False
                yield from self._begin(answer)
            return
        if not self._prompted and kind in _OF_A_TURN:
            return
        if kind not in _SPEAKERS:
            yield from self._end_message()
        match kind:
            case "agent_message_chunk" | "agent_thought_chunk":
                self._counted = content.counted(self._counted, update)
                yield from self._chunk(_SPEAKERS[kind], as_object(update.get("content")))
            case "tool_call" | "tool_call_update":
                runs = update.get("status") not in (None, "pending")
                told = kind == "tool_call_update" and bool(as_object(update.get("rawInput")))
                identity = as_text(update.get("toolCallId"))
                yield from self._call(identity, update, show=runs or told)
                if update.get("status") in ("completed", "failed"):
                    if update.get("status") == "completed":
                        yield from self._check_unasked(identity)
                    yield self._end_call(identity)
            case "plan":
                yield Plan(entries=content.plan(update))
            case "current_mode_update":
                self._current_mode = as_text(update.get("currentModeId"))
                yield Notice(kind="permission_mode", text=f"Permission mode: {self._current_mode}")
            case "usage_update":
                self._context = as_count(update.get("used")), as_count(update.get("size"))
                cost = as_object(update.get("cost"))
                if cost.get("currency") == "USD":
                    self._cost = max(0.0, as_number(cost.get("amount")) or 0.0)
            case _:
                self.unknown += kind not in _SILENT

    def _chunk(self, speaker: Speaker, block: Json) -> Iterator[TurnEvent]:
        if self._speaker not in (None, speaker):
            yield from self._end_message()
        text, media = content.block(block)
        if not self._acted and self._cli.mode_message and text == self._cli.mode_message + self._current_mode:
            return  # the mode that was asked for: the model did not write this
        if text or media:
            self._speaker, self._acted = speaker, True
            yield MessageChunk(speaker=speaker, text=text or f"[{media}]")

    def _end_message(self) -> Iterator[TurnEvent]:
        if self._speaker is not None:
            self._speaker = None
            yield MessageEnded()

    def _call(self, identity: str, told: Json, *, show: bool) -> Iterator[TurnEvent]:
        """Take in what is told of a tool call, and show it once it is known: a pending one has no arguments yet."""
        self._acted = True
        call = self._calls.setdefault(identity, {})
        call.update({name: value for name, value in told.items() if value is not None})
        if show and identity not in self._shown:
            self._shown[identity] = content.diffs(call)
            kind = content.tool_kind(call)
            yield ToolCall(
                id=identity,
                name=kind,
                kind=kind,
                title=content.title(call),
                arguments=to_json(as_object(call.get("rawInput"))),
                diffs=self._shown[identity],
                parent=content.parent(call),
            )

    def _end_call(self, identity: str) -> ToolCallEnded:
        call = self._calls.pop(identity)
        shown = self._shown.pop(identity, [])
        text, images = content.result(call)
        changes = [content.diff_text(diff) for diff in content.diffs(call) if diff not in shown]
        text = "\n".join([*changes, text] if text else changes)
        failed = call.get("status") == "failed" or identity in self._denied
        status = "failed" if failed else "completed"
        return ToolCallEnded(id=identity, status=status, text=text, images=images, parent=content.parent(call))

    def _end_calls(self) -> Iterator[TurnEvent]:
        """End the calls that the CLI says nothing more of, as Gemini does with those that were not allowed."""
        for identity in list(self._calls):
            yield from self._call(identity, {}, show=True)
            self._calls[identity].pop("content", None)  # it was the question's, no result
            self._calls[identity]["status"] = "failed"
            yield self._end_call(identity)


def _cannot(cli: AcpCli, mode: PermissionMode | None, model: str | None) -> str | None:
    if mode == "plan" and not cli.modes:
        return f"It is not known how {cli.name} is kept from changing anything: it takes no permission mode plan."
    if model is not None and cli.model_flag is None:
        return f"{cli.name} takes no model from here: choose it in its own settings."
    return None


def _option(answer: Json, category: str) -> str:
    """The present value of a configuration option, which newer CLIs have in the place of modes and models."""
    options = as_objects(answer.get("configOptions"))
    return next((as_text(option.get("currentValue")) for option in options if option.get("category") == category), "")


def _error_text(error: Json) -> str:
    """The text of an error: its message, and what it says in its data."""
    data = error.get("data")
    details = data if isinstance(data, str) else as_text(as_object(data).get("details"))
    parts = [as_text(error.get("message")), details]
    return short(": ".join(part for part in parts if part)) or f"error {as_count(error.get('code'))}"
