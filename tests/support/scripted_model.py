"""A model's endpoint that answers by a script in the prompt (support/model_script.py): the real coding CLIs run without
network and account.

    POST /v1/messages                            Anthropic Messages (Claude Code)
    POST /v1/responses                           OpenAI Responses (Codex, OpenCode)
    POST /v1beta/models/MODEL:generateContent    Gemini (Gemini CLI), and `:streamGenerateContent`
    GET  /served                                 the sums of the tokens that were reported

Every other address answers an empty list.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from support.model_script import Answer, Script, stay
from support.model_wires import Anthropic, Google, OpenAI, Wire

_ERRORS = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}


def scripted_model() -> Starlette:
    """The endpoint."""
    ids = itertools.count(1)
    failed: Counter[str] = Counter()
    served: Counter[str] = Counter()

    async def ask(wire: Wire, request: Request, *, streamed: bool) -> Response:
        body = await request.json()
        said = wire.said(body)
        script = Script.of(said.texts[-1] if said.texts else "")
        if "fail" in script.values:
            code, times = [*map(int, script.values["fail"].split()), 10**9][:2]
            failed[script.prompt] += 1
            if failed[script.prompt] <= times:
                error = {"message": "scripted failure", "type": _ERRORS.get(code, "api_error")}
                return JSONResponse({"type": "error", "error": error}, status_code=code)
        if "before" in script.values:
            await stay(script.values["before"])
        answer = Answer.to(script, said, wire.shell(body), next(ids))
        served.update(answer.tokens)
        if not streamed:
            return JSONResponse(wire.whole(answer, body))
        return StreamingResponse(wire.stream(answer, body), media_type="text/event-stream")

    async def messages(request: Request) -> Response:
        return await ask(Anthropic(), request, streamed=bool((await request.json()).get("stream")))

    async def responses(request: Request) -> Response:
        return await ask(OpenAI(), request, streamed=bool((await request.json()).get("stream")))

    async def generate(request: Request) -> Response:
        method = request.path_params["call"].rpartition(":")[2]
        if method == "countTokens":
            return JSONResponse({"totalTokens": 100})
        return await ask(Google(), request, streamed=method == "streamGenerateContent")

    async def all_served(_: Request) -> Response:
        return JSONResponse(served)

    async def anything_else(_: Request) -> Response:
        return JSONResponse({"data": [], "models": []})

    return Starlette(
        routes=[
            Route("/v1/messages", messages, methods=["POST"]),
            Route("/v1/responses", responses, methods=["POST"]),
            Route("/v1beta/models/{call}", generate, methods=["POST"]),
            Route("/served", all_served),
            Route("/{path:path}", anything_else, methods=["GET", "POST", "HEAD"]),
        ]
    )


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
