"""The program of a host: it starts agents that admins request, as far as the machine's owner allows it.

It runs no commands itself and has no terminal. Its agents are stopped with it, and started again with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.enrol import ServerUnreachable, credentials_of, this_machine
from onsembl.agent.errors import AgentError
from onsembl.agent.folder_lock import lock_folder
from onsembl.agent.hosting.client import HostClient, KnownHost, Over, Rejected
from onsembl.agent.hosting.hosted import Hosted, HostedAgents
from onsembl.agent.hosting.rules import HostRules, Refused
from onsembl.agent.process.reaper import Reaper
from onsembl.agent.rendering.text import printable
from onsembl.protocol.backoff import Backoff
from onsembl.protocol.enrolment import AgentCredentials
from onsembl.protocol.hosting import HostOffer, Outcome, RequestedStart, agent_kind

logger = logging.getLogger(__name__)

ENROL_ATTEMPTS = 3
"""How often the server is asked for an agent's credentials."""
LEAVE_SECONDS = 3.0
"""How long a host that ends tries to tell the server."""
MAX_REASON = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """How to run a host. `folder` has its credentials and its record, `state_dir` the folders of agents; `options` are
    passed to each agent."""

    folder: Path
    state_dir: Path
    host: KnownHost
    rules: HostRules
    options: Sequence[str] = ()


async def run_host(config: HostConfig) -> None:
    """Run until SIGTERM, SIGINT or SIGHUP. Raises AgentError when only a person can help."""
    try:
        lock = lock_folder(config.folder)
    except OSError as error:
        raise AgentError(f"The host's folder {config.folder} cannot be used: {error.strerror}.") from error
    reaper = Reaper(adopt=False)
    try:
        await _Program(config, reaper).run()
    finally:
        reaper.close()
        os.close(lock)


class _Program:
    def __init__(self, config: HostConfig, reaper: Reaper) -> None:
        self._config, self._rules = config, config.rules
        self._client = HostClient(config.host)
        self._connected = asyncio.Event()
        self._outcomes: asyncio.Queue[tuple[RequestedStart, Outcome, str]] = asyncio.Queue()
        """What the server is still to be told."""
        self._agents = HostedAgents(config.folder, config.state_dir, reaper, self._report_end)
        for one in self._agents.ended:
            self._report_end(one)

    async def run(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, stop.set)
        tasks = [asyncio.create_task(each) for each in (self._serve(), self._send_outcomes())]
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._leave()
            await self._agents.stop()
        for task in done:
            task.result()

    async def _leave(self) -> None:
        """Tell the server that the host takes no more requests."""
        with suppress(ServerUnreachable, Over, Rejected, TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._client.poll(0, leaving=True)

    async def _serve(self) -> None:
        """Connect, start the agents that ran before, and take requests. Raises AgentError."""
        backoff = Backoff()
        while True:
            try:
                if not self._connected.is_set():
                    await self._client.connect(self._offer())
                    self._connected.set()
                    logger.info("Connected to %s as %s", self._config.host.server, self._config.host.name)
                    self._start_again()
                for start in await self._client.poll(self._agents.running):
                    if not self._agents.knows(start.id):
                        await self._take(start)
                backoff.reset()
            except ServerUnreachable as error:
                logger.warning("%s", error, extra={"action": "server_unreachable"})
                await asyncio.sleep(backoff.next_delay())
            except Rejected as error:
                raise AgentError(str(error)) from error

    def _offer(self) -> HostOffer:
        machine, system = this_machine()
        return HostOffer(
            kinds=self._rules.kinds,
            folders=self._rules.folders,
            max_agents=self._rules.max_agents,
            machine=machine,
            platform=system,
        )

    async def _take(self, start: RequestedStart) -> None:
        """Enrol and start the agent of a request, or refuse it."""
        try:
            await self._enrol_and_run(start)
        except (Refused, Rejected) as error:
            self._drop(start, "refused", str(error))
        except (ServerUnreachable, OSError) as error:
            logger.warning("The agent %s could not be started: %s", start.name, error, extra={"action": "start_failed"})
            self._drop(start, "failed", f"{error}")
        else:
            logger.info("Started the agent %s (%s) in %s", start.name, start.kind, start.folder)
            self._outcomes.put_nowait((start, "started", ""))

    async def _enrol_and_run(self, start: RequestedStart) -> None:
        """Raises Refused, Rejected, ServerUnreachable and OSError."""
        self._rules.check(start.kind, self._agents.running)
        place = self._config.state_dir / start.name
        if (place / store.FILE_NAME).exists():
            raise Refused(
                f"Its machine has the credentials of an agent named {start.name}. Remove them there with: "
                f"onsembl agent logout --name {start.name}"
            )
        folder = self._rules.open_folder(start.folder)
        try:
            store.prepare(place)
            self._agents.add(start)
            answer = await self._enrolled(start)
            store.save(place, credentials_of(self._config.host.server, agent_kind(start.kind), answer))
            self._agents.run(start, folder, self._config.options)
        finally:
            os.close(folder)

    async def _enrolled(self, start: RequestedStart) -> AgentCredentials:
        """The agent's credentials, asked for again when the answer was lost."""
        backoff = Backoff()
        for _ in range(ENROL_ATTEMPTS - 1):
            with suppress(ServerUnreachable):
                return await self._client.enrol(start.id)
            await asyncio.sleep(backoff.next_delay())
        return await self._client.enrol(start.id)

    def _start_again(self) -> None:
        """Start the agents that ran before, unless the owner allows them no longer."""
        for one in self._agents.idle:
            try:
                self._run_again(one.start)
            except (Refused, OSError) as error:
                self._drop(one.start, "ended", str(error))
            else:
                logger.info("Started the agent %s again", one.start.name)
        for start in self._agents.starts:
            self._outcomes.put_nowait((start, "started", ""))  # the last run may not have come to it

    def _run_again(self, start: RequestedStart) -> None:
        """Raises Refused and OSError."""
        if not (self._config.state_dir / start.name / store.FILE_NAME).exists():
            raise Refused("The host was interrupted before the agent had its credentials.")
        self._rules.check(start.kind, self._agents.running)
        folder = self._rules.open_folder(start.folder)
        try:
            self._agents.run(start, folder, self._config.options)
        finally:
            os.close(folder)

    def _drop(self, start: RequestedStart, outcome: Outcome, reason: str) -> None:
        """Forget an agent that does not run, and tell the server."""
        with suppress(OSError):  # on a full disk it is dropped at the next start
            self._agents.forget(start.id)
        self._outcomes.put_nowait((start, outcome, reason))

    def _report_end(self, one: Hosted) -> None:
        logger.warning("The agent %s has ended: %s", one.start.name, one.ended, extra={"action": "agent_ended"})
        self._outcomes.put_nowait((one.start, "ended", one.ended or ""))

    async def _send_outcomes(self) -> None:
        """Tell the server of outcomes, each until it knows. Raises Over."""
        backoff = Backoff()
        await self._connected.wait()
        while True:
            start, outcome, reason = await self._outcomes.get()
            while True:
                try:
                    await self._client.report(start.id, outcome, printable(reason)[:MAX_REASON])
                except ServerUnreachable as error:
                    logger.warning("%s", error, extra={"action": "server_unreachable"})
                    await asyncio.sleep(backoff.next_delay())
                except Rejected as error:
                    logger.warning("%s", error, extra={"action": "outcome_rejected"})
                    break
                else:
                    backoff.reset()
                    break
            if outcome == "ended":
                with suppress(OSError):
                    self._agents.forget(start.id)
