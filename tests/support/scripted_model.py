"""A model's endpoint that answers by a script in the prompt: the real coding CLIs run without network and account.

It speaks the Anthropic Messages API (`POST /v1/messages`), as Claude Code does. The last text of the user is the
script. Directives in it, in any order, shape the answer:

    [run: COMMAND]          first ask the CLI to run COMMAND with its shell tool, then answer with what it printed
    [call: NAME {JSON}]     ask the CLI to call its tool NAME with these arguments
    [say: TEXT]             answer with exactly this
    [recall: N]             answer with the user's N-th text of the conversation, from 1, without its directives
    [slow: N]               spread the answer over N seconds, to interrupt it half way
    [words: N]              answer with N numbered words
    [tokens: N] [input: N]  report N output tokens, N input tokens
    [cache: READ WRITE]     report that many tokens read from the cache and written to it
    [fail: CODE TIMES]      answer with this HTTP status, TIMES times (always, without it)

Several [run] and [call] are steps: the next is asked for when the one before has its result. Calls joined by `&` are
asked for together: [call: Bash {"command": "touch a"} & Bash {"command": "touch b"}]. A JSON value may hold directives
of its own, such as the prompt of a subagent. Without a directive the answer is the prompt's first 80 characters.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_DIRECTIVE = re.compile(r"\[(run|call|say|recall|slow|words|tokens|input|cache|fail):\s*")
_CALL_NAME = re.compile(r"\s*&?\s*([\w.\-/]+)\s*")
_REMINDER = re.compile(r"<(system-reminder|session_context)>.*?</\1>", re.DOTALL)
_ERRORS = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
Call = tuple[str, dict[str, Any]]


def _directives(text: str) -> tuple[list[tuple[str, Any]], str]:
    """The directives in order, and the text without them. JSON values are skipped over, not searched."""
    found: list[tuple[str, Any]] = []
    plain: list[str] = []
    at = 0
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
        else:
            end = text.find("]", at)
            found.append((name, text[at : end if end >= 0 else len(text)]))
        at = text.find("]", at) + 1 or len(text)
    return found, "".join([*plain, text[at:]]).strip()


@dataclass(frozen=True)
class Script:
    """What a text of the user asks of the model."""

    prompt: str
    steps: list[list[Call]] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> Script:
        try:
            listed, prompt = _directives(text)
        except ValueError as error:
            return cls(f"bad directive: {error}")
        steps = [[("Bash", {"command": value})] if name == "run" else value for name, value in listed if name in _CALLS]
        return cls(prompt, steps, {name: value for name, value in listed if name not in _CALLS})

    def calls(self, done: int) -> list[Call]:
        """The tool calls to ask for now, when `done` of them have a result."""
        for step in self.steps:
            if done <= 0:
                return step
            done -= len(step)
        return []

    def answer(self, outputs: list[str], texts: list[str]) -> str:
        """The text of the answer. `outputs` are the results of tools since the prompt, `texts` all of the user's."""
        if "say" in self.values:
            return self.values["say"]
        if "recall" in self.values:
            return Script.of(texts[int(self.values["recall"]) - 1]).prompt
        if "words" in self.values:
            return " ".join(f"word{number}" for number in range(int(self.values["words"])))
        if outputs:
            return f"The command printed: {outputs[-1].strip()[:2000]}"
        return f"Scripted answer: {self.prompt[:80]}"


_CALLS = ("run", "call")


def _read(messages: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The texts of the user, and the outputs of the tools that ran since the last of them."""
    texts: list[str] = []
    outputs: list[str] = []
    for message in messages:
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if message["role"] != "user":
                continue
            if block["type"] == "text" and (text := _REMINDER.sub("", block["text"]).strip()):
                texts.append(text)
                outputs = []
            elif block["type"] == "tool_result":
                inner = block.get("content", "")
                text = inner if isinstance(inner, str) else "".join(part.get("text", "") for part in inner)
                outputs.append(_REMINDER.sub("", text).strip())
    return texts, outputs


def scripted_model() -> Starlette:
    """The endpoint. `/served` has the sums of the tokens that were reported; every other address answers an empty
    list."""
    ids = itertools.count(1)
    failed: Counter[str] = Counter()
    served: Counter[str] = Counter()

    async def messages(request: Request) -> Response:
        body = await request.json()
        texts, outputs = _read(body.get("messages", []))
        script = Script.of(texts[-1] if texts else "")
        if "fail" in script.values:
            code, times = [*map(int, script.values["fail"].split()), 10**9][:2]
            failed[script.prompt] += 1
            if failed[script.prompt] <= times:
                error = {"message": "scripted failure", "type": _ERRORS.get(code, "api_error")}
                return JSONResponse({"type": "error", "error": error}, status_code=code)
        number = next(ids)
        calls = script.calls(len(outputs)) if body.get("tools") else []
        text = script.answer(outputs, texts)
        blocks = [
            {"type": "tool_use", "id": f"toolu_{number}_{place}", "name": name, "input": arguments}
            for place, (name, arguments) in enumerate(calls)
        ]
        head = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": body.get("model", "scripted")}
        read, written = map(int, script.values.get("cache", "0 0").split())
        usage = {
            "input_tokens": int(script.values.get("input", 100)),
            "output_tokens": int(script.values.get("tokens", len(text) // 4 + 1)),
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
        }
        served.update(usage)
        stop = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
        if not body.get("stream"):
            return JSONResponse({**head, **stop, "content": blocks or [{"type": "text", "text": text}], "usage": usage})
        seconds = float(script.values.get("slow", 0))
        return StreamingResponse(_stream(head, blocks, text, stop, usage, seconds), media_type="text/event-stream")

    async def all_served(_: Request) -> Response:
        return JSONResponse(served)

    async def anything_else(_: Request) -> Response:
        return JSONResponse({"data": []})

    return Starlette(
        routes=[
            Route("/v1/messages", messages, methods=["POST"]),
            Route("/served", all_served),
            Route("/{path:path}", anything_else, methods=["GET", "POST", "HEAD"]),
        ]
    )


async def _stream(
    head: dict[str, Any],
    blocks: list[dict[str, Any]],
    text: str,
    stop: dict[str, Any],
    usage: dict[str, int],
    seconds: float,
) -> AsyncIterator[str]:
    def event(kind: str, **fields: object) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"

    unwritten = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    yield event("message_start", message={**head, **unwritten})
    for place, block in enumerate(blocks):
        yield event("content_block_start", index=place, content_block={**block, "input": {}})
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield event("content_block_delta", index=place, delta=delta)
        yield event("content_block_stop", index=place)
    if not blocks:
        yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        pieces = re.findall(r"\S+\s*", text) or [text]
        for piece in pieces:
            yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
            if seconds:
                await asyncio.sleep(seconds / len(pieces))
        yield event("content_block_stop", index=0)
    yield event("message_delta", delta=stop, usage={"output_tokens": usage["output_tokens"]})
    yield event("message_stop")


@asynccontextmanager
async def model_running() -> AsyncGenerator[str]:
    """Serve the endpoint; yield its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(scripted_model(), log_level="warning", timeout_graceful_shutdown=1))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listener.close()
