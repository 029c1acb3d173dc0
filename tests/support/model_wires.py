"""The protocols in which a scripted model is asked: those of Anthropic, OpenAI and Google.

Each has the user's texts and the outputs of tools that a request has (`said`), the shell tool among the tools that it
offers (`shell`), the model's name (`model`), and an answer as the protocol's whole message and its stream.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

from support.model_script import Answer, Said, plain

Json = dict[str, Any]


class Wire(Protocol):
    """A protocol."""

    def said(self, body: Json) -> Said: ...

    def shell(self, body: Json) -> str | None:
        """The CLI's shell tool; None when it offers no tools."""
        ...

    def whole(self, answer: Answer, body: Json) -> Json:
        """The answer to a request that wants no stream."""
        ...

    def stream(self, answer: Answer, body: Json) -> AsyncIterator[str]: ...


def _event(data: Json) -> str:
    head = f"event: {data['type']}\n" if "type" in data else ""
    return f"{head}data: {json.dumps(data)}\n\n"


class _Reader:
    """Collects texts of the user and outputs of tools."""

    def __init__(self) -> None:
        self.said = Said([], [])

    def text(self, text: str) -> None:
        if text := plain(text):
            self.said.texts.append(text)
            self.said.outputs.clear()

    def output(self, text: str) -> None:
        self.said.outputs.append(plain(text))


def _joined(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


class Anthropic:
    """Anthropic Messages, as Claude Code asks."""

    def said(self, body: Json) -> Said:
        reader = _Reader()
        for message in body.get("messages", []):
            content = message["content"]
            for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
                if message["role"] != "user":
                    continue
                if block["type"] == "text":
                    reader.text(block["text"])
                elif block["type"] == "tool_result":
                    reader.output(_joined(block.get("content", "")))
        return reader.said

    def shell(self, body: Json) -> str | None:
        return "Bash" if body.get("tools") else None

    def _parts(self, answer: Answer, body: Json) -> tuple[Json, list[Json], Json, Json]:
        """The message's head, its tool calls, its end, its usage."""
        blocks: list[Json] = [
            {"type": "tool_use", "id": f"toolu_{answer.number}_{place}", "name": name, "input": arguments}
            for place, (name, arguments) in enumerate(answer.calls)
        ]
        head = {"id": f"msg_{answer.number}", "type": "message", "role": "assistant"}
        stop = {"stop_reason": "tool_use" if blocks else "end_turn", "stop_sequence": None}
        usage = {
            "input_tokens": answer.tokens["input_tokens"],
            "output_tokens": answer.tokens["output_tokens"],
            "cache_read_input_tokens": answer.tokens["cache_read_tokens"],
            "cache_creation_input_tokens": answer.tokens["cache_write_tokens"],
        }
        return {**head, "model": body.get("model", "scripted")}, blocks, stop, usage

    def whole(self, answer: Answer, body: Json) -> Json:
        head, blocks, stop, usage = self._parts(answer, body)
        return {**head, **stop, "content": blocks or [{"type": "text", "text": answer.text}], "usage": usage}

    async def stream(self, answer: Answer, body: Json) -> AsyncIterator[str]:
        head, blocks, stop, usage = self._parts(answer, body)
        unwritten: Json = {
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**usage, "output_tokens": 1},
        }
        yield _event({"type": "message_start", "message": {**head, **unwritten}})
        for place, block in enumerate(blocks):
            empty: Json = {**block, "input": {}}
            yield _event({"type": "content_block_start", "index": place, "content_block": empty})
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            yield _event({"type": "content_block_delta", "index": place, "delta": delta})
            yield _event({"type": "content_block_stop", "index": place})
        if not blocks:
            yield _event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
            async for piece in answer.pieces():
                delta = {"type": "text_delta", "text": piece}
                yield _event({"type": "content_block_delta", "index": 0, "delta": delta})
            yield _event({"type": "content_block_stop", "index": 0})
        yield _event({"type": "message_delta", "delta": stop, "usage": {"output_tokens": usage["output_tokens"]}})
        yield _event({"type": "message_stop"})


class OpenAI:
    """OpenAI Responses, as Codex and OpenCode ask."""

    def said(self, body: Json) -> Said:
        reader = _Reader()
        items = body.get("input", [])
        for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
            if item.get("type") in ("function_call_output", "custom_tool_call_output"):
                reader.output(_joined(item["output"]))
            elif item.get("role") == "user":
                reader.text(_joined(item["content"]))
        return reader.said

    def shell(self, body: Json) -> str | None:
        names = [tool.get("name") for tool in body.get("tools", [])]
        return next((name for name in ("exec_command", "bash") if name in names), "") if names else None

    def _items(self, answer: Answer) -> list[Json]:
        calls = [
            self._call(f"{answer.number}_{place}", name, arguments)
            for place, (name, arguments) in enumerate(answer.calls)
        ]
        content: list[Json] = [{"type": "output_text", "text": answer.text, "annotations": []}]
        message = {"type": "message", "id": f"msg_{answer.number}", "role": "assistant", "status": "completed"}
        return calls or [{**message, "content": content}]

    def _call(self, number: str, name: str, arguments: Json) -> Json:
        if name == "exec_command" and "command" in arguments:
            arguments = {"cmd": arguments["command"], **{k: v for k, v in arguments.items() if k != "command"}}
        elif name == "bash":
            arguments = {"description": "scripted", **arguments}
        space, _, name = name.rpartition(".")
        head = {"id": f"fc_{number}", "call_id": f"call_{number}", "name": name, "status": "completed"}
        within = {"namespace": space} if space else {}
        return {**head, **within, "type": "function_call", "arguments": json.dumps(arguments)}

    def whole(self, answer: Answer, body: Json) -> Json:
        head = {"id": f"resp_{answer.number}", "object": "response", "created_at": 0}
        tokens = answer.tokens
        read, stored = tokens["cache_read_tokens"], tokens["cache_write_tokens"]
        entered = tokens["input_tokens"] + read + stored  # the vendor counts them together
        usage = {
            "input_tokens": entered,
            "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": stored},
            "output_tokens": tokens["output_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": entered + tokens["output_tokens"],
        }
        model = body.get("model", "scripted")
        return {**head, "model": model, "status": "completed", "output": self._items(answer), "usage": usage}

    async def stream(self, answer: Answer, body: Json) -> AsyncIterator[str]:
        whole = self.whole(answer, body)
        begun: Json = {**whole, "status": "in_progress", "output": [], "usage": None}
        yield _event({"type": "response.created", "response": begun})
        for place, item in enumerate(whole["output"]):
            if answer.calls:
                yield _event({"type": "response.output_item.added", "output_index": place, "item": item})
            else:
                added: Json = {**item, "content": []}
                yield _event({"type": "response.output_item.added", "output_index": place, "item": added})
                at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
                async for piece in answer.pieces():
                    yield _event({"type": "response.output_text.delta", **at, "delta": piece})
            yield _event({"type": "response.output_item.done", "output_index": place, "item": item})
        yield _event({"type": "response.completed", "response": whole})


class Google:
    """Gemini's `generateContent`, as Gemini CLI asks."""

    def said(self, body: Json) -> Said:
        reader = _Reader()
        for content in body.get("contents", []):
            if content.get("role") not in (None, "user", "function"):
                continue
            for part in content.get("parts", []):
                if "functionResponse" in part:
                    told = part["functionResponse"].get("response", {})
                    reader.output(str(told.get("output", told)))
                else:
                    reader.text(part.get("text", ""))
        return reader.said

    def shell(self, body: Json) -> str | None:
        return "run_shell_command" if body.get("tools") else None

    def _candidate(self, answer: Answer, parts: list[Json], *, ended: bool) -> Json:
        tokens = answer.tokens
        entered = tokens["input_tokens"] + tokens["cache_read_tokens"]  # the vendor counts them together
        usage = {
            "promptTokenCount": entered,
            "cachedContentTokenCount": tokens["cache_read_tokens"],
            "candidatesTokenCount": tokens["output_tokens"],
            "totalTokenCount": entered + tokens["output_tokens"],
        }
        choice: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
        if not ended:
            return {"candidates": [choice], "modelVersion": "scripted"}
        choice["finishReason"] = "STOP"
        return {"candidates": [choice], "modelVersion": "scripted", "usageMetadata": usage}

    def whole(self, answer: Answer, body: Json) -> Json:
        del body
        parts: list[Json] = []
        for name, arguments in answer.calls:
            told = {"description": "scripted", **arguments} if name == "run_shell_command" else arguments
            parts.append({"functionCall": {"name": name, "args": told}})
        return self._candidate(answer, parts or [{"text": answer.text}], ended=True)

    async def stream(self, answer: Answer, body: Json) -> AsyncIterator[str]:
        if answer.calls:
            yield _event(self.whole(answer, body))
            return
        async for piece in answer.pieces():
            yield _event(self._candidate(answer, [{"text": piece}], ended=False))
        yield _event(self._candidate(answer, [{"text": ""}], ended=True))
