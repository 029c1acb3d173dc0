"""A control center whose parts a test kills, and agents that the test brings to a point, each with its own link."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from chaos.parts import ApiPart, Part, PostgresPart
from support.agents import FINAL, CuttableLink, Operator, RunningAgent, agent_running, until
from support.api_calls import call_api
from support.server import Api

from onsembl.cli.server.dashboard import dashboard_files
from onsembl.cli.server.embedded_postgres import EmbeddedPostgres

FAST_RECOVERY = ("--dead-after", "2")
NONE_IDLE = httpx.Limits(max_keepalive_connections=0)
"""No request meets a connection that the server closes just then: it waits 5 s, and this machine may take longer."""
AGAIN_SECONDS = 0.1
PATIENT = "claude:interrupt=600 codex:interrupt=600 acp:interrupt=600"
"""The turn of a coding agent ends by its interrupt alone, however long the machine takes to kill and start parts."""


class PatientTransport(httpx.AsyncHTTPTransport):
    """Sends a request again while the API answers 503, upon which nothing was changed: after a kill of Postgres, it
    still has connections to the killed server."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        while (response := await super().handle_async_request(request)).status_code == 503:
            await response.aclose()
            await asyncio.sleep(AGAIN_SECONDS)
        return response


class MutedLink(CuttableLink):
    """A link that can drop the agent's messages; `cut` it afterwards."""

    muted = False

    def passes_request(self, data: bytes) -> bool:
        return not self.muted


@dataclass
class Stage:
    """An agent with a link of its own, for one point."""

    operator: Operator
    agent: RunningAgent
    link: MutedLink
    folder: Path
    start_agent: Callable[[], Awaitable[RunningAgent]]
    victims: str = ""
    """The killed parts; each kill has files of its own."""

    async def ready(self) -> None:
        """Wait until the agent runs commands."""
        command = await self.operator.send(self.agent.id, "true")
        assert (await self.operator.until_state(command, *FINAL))["state"] == "succeeded"

    async def connected(self) -> None:
        """Wait until the agent is online."""

        async def is_online() -> bool:
            return (await call_api(self.operator, "GET", f"/v1/agents/{self.agent.id}"))["status"] == "online"

        await until(is_online, "the agent is online")

    def file(self, name: str) -> Path:
        return self.folder / f"{name}-{self.victims.replace(' ', '-')}-{self.agent.id}"

    async def send(self, script: str = "true") -> dict:
        """Send a command that records each of its runs, and then runs the script."""
        return await self.operator.send(self.agent.id, f"echo x >> {self.file('ran')}; {script}")

    def wait_script(self) -> str:
        """A script that waits for the file `go` and then writes the file `ended`."""
        return f"until test -e {self.file('go')}; do sleep 0.05; done; echo x >> {self.file('ended')}"

    async def exists(self, name: str) -> None:
        async def exists() -> bool:
            return self.file(name).exists()

        await until(exists, name)

    async def state_of(self, command: dict) -> str:
        return (await self.operator.read(command))["state"]


@dataclass
class Center:
    """A control center whose parts the test kills."""

    api: Api
    operator: Operator
    stage: Callable[..., Awaitable[Stage]]
    """Starts an agent of this name, of the kind `shell` or another one, with the arguments of its CLI and additions to
    the environment."""
    kill: Callable[[str], Awaitable[None]]
    ready: Callable[[], Awaitable[None]]


def thaw(agent: RunningAgent) -> None:
    """Let an agent go on that a test has stopped and that has failed then: it could not be ended."""
    if agent.process.returncode is None:
        agent.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def center_running(
    own_postgres: EmbeddedPostgres, tmp_path: Path, **agents_environment: str
) -> AsyncGenerator[Center]:
    """Run one, and its agents with these additions to the environment."""
    environment = {**os.environ, **agents_environment}
    async with AsyncExitStack() as stack:
        url = own_postgres.url()
        parts: dict[str, Part | PostgresPart] = {"postgres": PostgresPart(own_postgres)}
        api_part = parts["api"] = ApiPart(tmp_path, url, ONSEMBL_CANCEL_TIMES=PATIENT)
        parts["worker"] = Part(tmp_path, "worker", "worker", *FAST_RECOVERY, database_url=url)
        # A new clone builds its page first, which may take longer than an API has time to be ready.
        await asyncio.to_thread(dashboard_files, print)
        for part in (api_part, parts["worker"]):
            await part.start()
            stack.push_async_callback(part.stop)
        client = httpx.AsyncClient(base_url=api_part.url, timeout=30, transport=PatientTransport(limits=NONE_IDLE))
        http = await stack.enter_async_context(client)
        await api_part.ready(http)
        api = Api(api_part.url, url, http)
        operator = Operator(api, await api.operator())

        async def stage(name: str, kind: str = "shell", arguments: Sequence[str] = (), **own: str) -> Stage:
            link = await stack.enter_async_context(MutedLink(api.url))

            async def start() -> RunningAgent:
                agent = await stack.enter_async_context(
                    agent_running(
                        api, tmp_path, name, kind, server=link.url, env={**environment, **own}, arguments=arguments
                    )
                )
                stack.callback(thaw, agent)
                return agent

            made = Stage(operator, await start(), link, tmp_path, start)
            await made.connected()
            return made

        yield Center(api, operator, stage, lambda victim: parts[victim].kill(), lambda: api_part.ready(http))
