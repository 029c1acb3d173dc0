"""A scripted model endpoint, so that the real agent CLIs run with no network and no account.

Speaks the three wire formats that the CLIs use, streaming:

    POST /v1/messages                                        Anthropic Messages   (Claude Code)
    POST /v1/responses                                       OpenAI Responses     (Codex, OpenCode)
    POST /v1beta/models/{model}:streamGenerateContent        Gemini               (Gemini CLI)

The last user text is the script. Directives in it, in any order, shape the answer:

    [run: CMD]              first ask the CLI to run CMD with its own shell tool, then answer with what it printed
    [call: NAME {JSON}]     ask the CLI to call its tool NAME with these arguments, whatever it is
    [say: TEXT]             answer with exactly this ("]" only inside a JSON value)
    [slow: N]               spread the answer over N seconds (to interrupt it half way)
    [words: N]              answer with N numbered words
    [tokens: N]             report N output tokens in the usage figures
    [input: N]              report N input tokens (100 without it)
    [fail: CODE TIMES TYPE] answer with that HTTP status, TIMES times (for ever without it), as error TYPE
    [break: N]              cut the connection after N words of the answer

Several [run] and [call] are steps: the next is asked for when the one before has its result. Calls joined
by "&" are asked for together: [call: Bash {"command": "touch a"} & Bash {"command": "touch b"}]. A JSON value
may hold directives of its own, such as the prompt of a subagent: [call: Agent {"prompt": "please [run: id]", …}].

Without a directive the answer is "Scripted answer: " and the prompt's first 80 characters.

SCRIPTED_MODEL_LOG=FILE in the environment appends one line a request: the tools offered and the script seen.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_ids = itertools.count(1)
_failed: Counter[str] = Counter()
_DIRECTIVE = re.compile(r"\[(run|call|say|slow|words|tokens|input|fail|break):\s*")
_CALL_NAME = re.compile(r"\s*&?\s*([\w.\-/]+)\s*")
_ERRORS = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
_SHELL = ""  # stands for the CLI's own shell tool in a step
Call = tuple[str, dict]


def _directives(text: str) -> tuple[list[tuple[str, str | list[Call]]], str]:
    """The directives in order, and the text without them. JSON values are skipped over, not searched."""
    found: list[tuple[str, str | list[Call]]] = []
    plain, at = [], 0
    while match := _DIRECTIVE.search(text, at):
        plain.append(text[at : match.start()])
        at, name = match.end(), match[1]
        if name == "call":
            calls: list[Call] = []
            while head := _CALL_NAME.match(text, at):
                at, arguments = head.end(), {}
                if text[at : at + 1] == "{":
                    arguments, at = json.JSONDecoder().raw_decode(text, at)
                calls.append((head[1], arguments))
            found.append((name, calls))
            at = text.find("]", at) + 1 or len(text)
        elif name == "say" and text[at : at + 1] in "{[":
            _, end = json.JSONDecoder().raw_decode(text, at)
            found.append((name, text[at:end]))
            at = text.find("]", end) + 1 or len(text)
        else:
            end = text.find("]", at)
            end = len(text) if end < 0 else end
            found.append((name, text[at:end]))
            at = end + 1
    return found, "".join([*plain, text[at:]]).strip()


@dataclass(frozen=True)
class Script:
    """What the last user text asks of the model."""

    prompt: str
    steps: list[list[Call]] = field(default_factory=list)
    say: str | None = None
    slow: float = 0.0
    words: int = 0
    tokens: int | None = None
    input: int = 100
    fail: tuple[int, int | None, str] | None = None
    cut: int | None = None

    @classmethod
    def of(cls, text: str) -> Script:
        try:
            listed, prompt = _directives(text)
        except ValueError as error:  # a prompt with broken JSON: say so in the answer
            return cls(prompt=f"bad directive: {error}")
        found = dict(listed)
        fail = None
        if "fail" in found:
            code, times, kind = [*found["fail"].split(), "", ""][:3]
            fail = (int(code), int(times) if times else None, kind)
        return cls(
            prompt=prompt,
            steps=[
                [(_SHELL, {"command": value})] if name == "run" else value
                for name, value in listed
                if name in ("run", "call")
            ],
            say=found.get("say"),
            slow=float(found.get("slow", 0)),
            words=int(found.get("words", 0)),
            tokens=int(found["tokens"]) if "tokens" in found else None,
            input=int(found.get("input", 100)),
            fail=fail,
            cut=int(found["break"]) if "break" in found else None,
        )

    def calls(self, outputs: list[str], shell: str | None, offered: bool) -> list[Call]:
        """The tool calls to ask for now, `outputs` being the results since the prompt."""
        if not offered:
            return []
        done = 0
        for step in self.steps:
            if done == len(outputs):
                return [(shell or "", arguments) if name == _SHELL else (name, arguments) for name, arguments in step]
            done += len(step)
        return []

    def answer(self, outputs: list[str]) -> str:
        if self.say is not None:
            return self.say
        if self.words:
            return " ".join(f"word{i}" for i in range(self.words))
        if outputs:
            return f"The command printed: {outputs[-1].strip()[:2000]}"
        return f"Scripted answer: {self.prompt[:80]}"

    async def pieces(self, text: str) -> AsyncIterator[str]:
        parts = re.findall(r"\S+\s*", text) or [text]
        if self.slow and len(parts) < 20:
            parts = [f"step{i} " for i in range(20)] + parts
        for n, part in enumerate(parts):
            if n == self.cut:
                raise ConnectionResetError("scripted break")
            yield part
            if self.slow:
                await asyncio.sleep(self.slow / len(parts))

    def output_tokens(self, text: str) -> int:
        return self.tokens if self.tokens is not None else max(1, len(text) // 4)

    def failure(self) -> Response | None:
        if self.fail is None:
            return None
        code, times, kind = self.fail
        _failed[self.prompt] += 1
        if times is not None and _failed[self.prompt] > times:
            return None
        error = {"message": "scripted failure", "type": kind or _ERRORS.get(code, "api_error")}
        return JSONResponse({"type": "error", "error": error}, status_code=code)


def _log(wire: str, tools: list[str], script: Script, outputs: list[str]) -> None:
    if path := os.environ.get("SCRIPTED_MODEL_LOG"):
        line = {"wire": wire, "tools": tools, "prompt": script.prompt[:300], "outputs": [o[:300] for o in outputs]}
        with Path(path).open("a") as file:
            file.write(json.dumps(line) + "\n")


def _sse(data: dict, event: str | None = None) -> str:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(data)}\n\n"


def _stream(chunks: AsyncIterator[str]) -> Response:
    return StreamingResponse(chunks, media_type="text/event-stream")


def _strip_reminders(text: str) -> str:
    tags = "system-reminder|environment_context|user_instructions|session_context|permissions_instructions"
    return re.sub(rf"<({tags})>.*?</\1>", "", text, flags=re.DOTALL).strip()


# Anthropic Messages (Claude Code)


def _anthropic_turn(body: dict) -> tuple[Script, list[str], list[str]]:
    """(script, outputs of the tools run since, names of the tools offered)."""
    prompt, outputs = "", []
    for message in body.get("messages", []):
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if message["role"] != "user":
            continue
        for block in blocks:
            if block["type"] == "text" and (text := _strip_reminders(block["text"])):
                prompt, outputs = text, []
            elif block["type"] == "tool_result":
                inner = block.get("content", "")
                text = inner if isinstance(inner, str) else "".join(b.get("text", "") for b in inner)
                outputs.append(_strip_reminders(text))
    return Script.of(prompt), outputs, [t.get("name") for t in body.get("tools", [])]


async def anthropic_messages(request: Request) -> Response:
    body = await request.json()
    script, outputs, tools = _anthropic_turn(body)
    _log("anthropic", tools, script, outputs)
    if failure := script.failure():
        return failure
    n = next(_ids)
    calls = script.calls(outputs, "Bash", bool(tools))
    text = script.answer(outputs)
    tokens = script.output_tokens(text)
    usage = {"input_tokens": script.input, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    blocks = [
        {"type": "tool_use", "id": f"toolu_{n}_{i}", "name": name, "input": arguments}
        for i, (name, arguments) in enumerate(calls)
    ]
    stop = "tool_use" if calls else "end_turn"
    message = {
        "id": f"msg_{n}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "scripted"),
        "stop_sequence": None,
    }
    if not body.get("stream"):
        content = blocks or [{"type": "text", "text": text}]
        return JSONResponse(
            {**message, "content": content, "stop_reason": stop, "usage": {**usage, "output_tokens": tokens}}
        )

    async def chunks() -> AsyncIterator[str]:
        def event(kind: str, **fields: object) -> str:
            return _sse({"type": kind, **fields}, kind)

        start = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
        yield event("message_start", message=start)
        for i, block in enumerate(blocks):
            yield event("content_block_start", index=i, content_block={**block, "input": {}})
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            yield event("content_block_delta", index=i, delta=delta)
            yield event("content_block_stop", index=i)
        if not blocks:
            yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
            async for piece in script.pieces(text):
                yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
            yield event("content_block_stop", index=0)
        yield event(
            "message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage={"output_tokens": tokens}
        )
        yield event("message_stop")

    return _stream(chunks())


# OpenAI Responses (Codex, OpenCode)

_SHELL_TOOLS = ("shell", "local_shell", "exec_command", "shell_command", "container.exec", "bash")


def _openai_turn(body: dict) -> tuple[Script, list[str], list[dict]]:
    """(script, outputs of the tools run since, tools offered)."""
    prompt, outputs = "", []
    items = body.get("input", [])
    for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
        if item.get("type") in ("function_call_output", "custom_tool_call_output"):
            outputs.append(item["output"] if isinstance(item["output"], str) else json.dumps(item["output"]))
        elif item.get("role") == "user":
            content = item["content"]
            text = content if isinstance(content, str) else "".join(c.get("text", "") for c in content)
            if text := _strip_reminders(text):
                prompt, outputs = text, []
    return Script.of(prompt), outputs, body.get("tools", [])


def _openai_call(n: str, name: str, arguments: dict, kind: str) -> dict:
    shell = arguments.get("command")
    if name == "exec_command" and isinstance(shell, str):
        arguments = {"cmd": shell, **{k: v for k, v in arguments.items() if k != "command"}}
    elif name == "bash":
        arguments = {"description": "scripted", **arguments}
    elif name in ("shell", "local_shell", "container.exec") and isinstance(shell, str):
        arguments = {**arguments, "command": ["bash", "-lc", shell]}
    head = {"id": f"fc_{n}", "call_id": f"call_{n}", "name": name, "status": "completed"}
    if kind == "custom":  # a free-form tool, such as apply_patch: the text is in "input"
        return {**head, "type": "custom_tool_call", "input": arguments.get("input", "")}
    return {**head, "type": "function_call", "arguments": json.dumps(arguments)}


async def openai_responses(request: Request) -> Response:
    body = await request.json()
    script, outputs, tools = _openai_turn(body)
    kinds = {t.get("name", t.get("type")): t.get("type") for t in tools}
    _log("openai", [f"{name}:{kind}" for name, kind in kinds.items()], script, outputs)
    if failure := script.failure():
        return failure
    n = next(_ids)
    shell = next((name for name in _SHELL_TOOLS if name in kinds), None)
    calls = script.calls(outputs, shell, bool(tools))
    text = script.answer(outputs)
    tokens = script.output_tokens(text)
    items = [
        _openai_call(f"{n}_{i}", name, arguments, kinds.get(name, "function"))
        for i, (name, arguments) in enumerate(calls)
    ] or [
        {
            "type": "message",
            "id": f"msg_{n}",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }
    ]
    model = body.get("model", "scripted")
    response = {"id": f"resp_{n}", "object": "response", "created_at": 0, "model": model, "output": []}
    usage = {
        "input_tokens": script.input,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": script.input + tokens,
    }

    async def chunks() -> AsyncIterator[str]:
        def event(kind: str, **fields: object) -> str:
            return _sse({"type": kind, **fields}, kind)

        yield event("response.created", response={**response, "status": "in_progress"})
        for index, item in enumerate(items):
            if calls:
                yield event("response.output_item.added", output_index=index, item=item)
            else:
                yield event("response.output_item.added", output_index=index, item={**item, "content": []})
                async for piece in script.pieces(text):
                    yield event(
                        "response.output_text.delta", item_id=item["id"], output_index=0, content_index=0, delta=piece
                    )
            yield event("response.output_item.done", output_index=index, item=item)
        yield event("response.completed", response={**response, "status": "completed", "output": items, "usage": usage})

    return _stream(chunks())


# Gemini


def _gemini_turn(body: dict) -> tuple[Script, list[str], list[str]]:
    """(script, outputs of the tools run since, names of the tools offered)."""
    prompt, outputs = "", []
    for content in body.get("contents", []):
        if content.get("role") not in (None, "user", "function"):
            continue
        for part in content.get("parts", []):
            if "functionResponse" in part:
                reply = part["functionResponse"].get("response", {})
                outputs.append(str(reply.get("output", reply)))
            elif text := _strip_reminders(part.get("text", "")):
                prompt, outputs = text, []
    names = [f.get("name") for t in body.get("tools", []) for f in t.get("functionDeclarations", [])]
    return Script.of(prompt), outputs, names


async def gemini_generate(request: Request) -> Response:
    body = await request.json()
    method = request.path_params["call"].rpartition(":")[2]
    script, outputs, tools = _gemini_turn(body)
    if method == "countTokens":
        return JSONResponse({"totalTokens": 100})
    _log("gemini", tools, script, outputs)
    if failure := script.failure():
        return failure
    calls = script.calls(outputs, "run_shell_command", bool(tools))
    text = script.answer(outputs)
    tokens = script.output_tokens(text)
    usage = {
        "promptTokenCount": script.input,
        "candidatesTokenCount": tokens,
        "totalTokenCount": script.input + tokens,
    }

    def candidate(parts: list[dict], finish: str | None) -> dict:
        choice = {"content": {"role": "model", "parts": parts}, "index": 0}
        if finish:
            choice["finishReason"] = finish
        return {"candidates": [choice], "modelVersion": "scripted", **({"usageMetadata": usage} if finish else {})}

    extra = {"run_shell_command": {"description": "scripted"}}
    asked = [{"functionCall": {"name": name, "args": {**extra.get(name, {}), **args}}} for name, args in calls]
    if method == "generateContent":
        return JSONResponse(candidate(asked or [{"text": text}], "STOP"))

    async def chunks() -> AsyncIterator[str]:
        if asked:
            yield _sse(candidate(asked, "STOP"))
            return
        async for piece in script.pieces(text):
            yield _sse(candidate([{"text": piece}], None))
        yield _sse(candidate([{"text": ""}], "STOP"))

    return _stream(chunks())


async def anything_else(request: Request) -> Response:
    return JSONResponse({"data": [], "models": []})


app = Starlette(
    routes=[
        Route("/v1/messages", anthropic_messages, methods=["POST"]),
        Route("/v1/responses", openai_responses, methods=["POST"]),
        Route("/v1beta/models/{call}", gemini_generate, methods=["POST"]),
        Route("/{path:path}", anything_else, methods=["GET", "POST", "HEAD"]),
    ]
)
