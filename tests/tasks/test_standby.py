"""An API process without a worker: it wakes one when jobs wait, and fires schedules itself."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.agents import FINAL, Operator, agent_running, until
from support.api_calls import call_api
from support.control_center import clean_environment
from support.forked import ForkedProcess, fork_onsembl
from support.frames import HELLO_TEXT
from support.ports import free_port
from support.server import running
from websockets.asyncio.client import ClientConnection

from onsembl.api.settings import Settings
from onsembl.protocol.waking import WakeTarget
from onsembl.sql import instances
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import connect
from onsembl.tasks.standby import StandbySettings

SECRET = "wake up, please"


class StartingProxy:
    """Starts a worker on a request and passes the request on to it, as Fly's proxy starts a stopped machine."""

    def __init__(self, database_url: str, *options: str) -> None:
        self._database_url = database_url
        self._options = options
        self.asked = 0
        self.refuses = 1
        """How many more requests are answered with 503."""
        self.workers: list[ForkedProcess] = []

    @asynccontextmanager
    async def serving(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/wake"
        finally:
            server.close()
            for worker in self.workers:
                if worker.returncode is None:
                    worker.terminate()
                await worker.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        if self.refuses > 0:
            self.refuses -= 1
            writer.write(b"HTTP/1.1 503 Not Now\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        else:
            port = free_port()
            options = (*self._options, "--until-idle", "--wake-port", str(port), "--database-url", self._database_url)
            environment = clean_environment(ONSEMBL_WORKER_WAKE_SECRET=SECRET)
            self.workers.append(await fork_onsembl("worker", *options, env=environment))
            writer.write(await _passed_on(port, request))
        writer.close()


async def _passed_on(port: int, request: bytes) -> bytes:
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            await asyncio.sleep(0.05)
            continue
        writer.write(request.replace(b"keep-alive", b"close"))
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return answer


async def test_a_worker_is_woken_when_jobs_wait_and_ends_when_none_is_left(database_url: str, tmp_path: Path):
    """Without a worker, a command wakes one, also if the first request fails; the worker ends. A schedule fires without
    a worker, and its command wakes the next one."""
    proxy = StartingProxy(database_url)
    async with proxy.serving() as url:
        standby = StandbySettings(
            dead_after=2.0, instance_dead_after=2.0, jobs_per_worker=200, wake=WakeTarget(url=url, secret=SECRET)
        )
        settings = Settings(database_url=database_url, public_url="", worker=None)
        async with running(replace(settings, standby=standby)) as api:
            operator = Operator(api, await api.operator())
            async with agent_running(api, tmp_path) as agent:
                command = await operator.send(agent.id, "echo first")
                assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"
                await woken(proxy, 1)
                assert proxy.asked > len(proxy.workers), "the first request was refused"
                before = len(proxy.workers)
                workers = await call_api(operator, "GET", "/v1/jobs/workers")
                assert (workers["workers"], workers["wanted"], workers["load"]) == ([], 0, 0)
                soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
                body = {"name": "soon", "text": "echo second", "at": soon, "target": {"agents": [agent.id]}}
                schedule = await call_api(operator, "POST", "/v1/schedules", body, 201)

                async def has_run():
                    return (await call_api(operator, "GET", f"/v1/schedules/{schedule['id']}/runs"))["runs"]

                (run,) = await until(has_run, "the schedule has fired")  # type: ignore[misc]
                second = {"id": run["command_id"]}
                assert (await operator.until_state(second, *FINAL))["state"] == "succeeded"
                await woken(proxy, before + 1)
                assert len(await has_run()) == 1


async def woken(proxy: StartingProxy, count: int) -> None:
    """Wait until at least this many workers were woken, and each has ended by itself."""

    async def there() -> bool:
        return len(proxy.workers) >= count

    await until(there, f"{count} workers were woken")
    async with asyncio.timeout(60):
        for worker in proxy.workers:
            assert await worker.wait() == 0


PER_WORKER = 5
AGENTS = 12


@pytest.mark.parametrize("commands", [36, pytest.param(200, marks=pytest.mark.soak)])
async def test_as_many_workers_as_are_wanted_come_and_go(database_url: str, commands: int):
    """Commands for 12 agents are 12 jobs at a time: the three workers that are wanted for them come, all commands end,
    each once, and every worker exits."""
    proxy = StartingProxy(database_url, "--concurrency", str(PER_WORKER))
    proxy.refuses = 0
    async with proxy.serving() as url, AsyncExitStack() as stack:
        wake = WakeTarget(url=url, secret=SECRET)
        standby = StandbySettings(dead_after=12.0, instance_dead_after=30.0, jobs_per_worker=PER_WORKER, wake=wake)
        settings = Settings(
            database_url=database_url, public_url="", worker=None, standby=standby, jobs_per_worker=PER_WORKER
        )
        api = await stack.enter_async_context(running(settings))
        operator = Operator(api, await api.operator())
        ended: Counter[str] = Counter()
        go = asyncio.Event()
        agents = [await api.enrol(f"agent-{number}") for number in range(AGENTS)]
        for agent in agents:
            socket = await stack.enter_async_context(api.agent_socket(agent))
            await socket.send(HELLO_TEXT)
            task = asyncio.create_task(_end_commands(socket, go, ended))
            stack.push_async_callback(cancel_until_done, [task])
        for number in range(commands):
            await operator.send(agents[number % AGENTS].id, f"echo {number}")

        async def wanted() -> bool:
            workers = await call_api(operator, "GET", "/v1/jobs/workers")
            assert workers["wanted"] <= math.ceil(AGENTS / PER_WORKER)
            return len(workers["workers"]) == math.ceil(AGENTS / PER_WORKER)

        await until(wanted, "the workers that are wanted")
        go.set()

        async def all_ended() -> bool:
            return ended.total() == commands

        await until(all_ended, "all commands have ended", commands)
        assert set(ended.values()) == {1}
        await woken(proxy, math.ceil(AGENTS / PER_WORKER))


async def _end_commands(socket: ClientConnection, go: asyncio.Event, ended: Counter[str]) -> None:
    """Accept each command, and end it once the event is set."""
    async for text in socket:
        message = json.loads(text)
        if message["type"] == "offer":
            now = datetime.now(UTC).isoformat()
            about = {"command_id": message["command_id"], "started_at": now, "output_start": 0}
            await socket.send(json.dumps({"type": "accepted", **about}))
            await go.wait()
            end = {"outcome": "succeeded", "ended_at": now, "output_end": 0}
            await socket.send(json.dumps({"type": "ended", **about, **end}))
        elif message["type"] == "end_recorded":
            ended[message["command_id"]] += 1


async def test_nothing_needs_a_worker_to_be_alive(database_url: str, tmp_path: Path):
    """While no worker comes, two schedules that are due fire once each, though two instances look for them, and the
    agents of a dead instance go offline. Then a worker is woken, and each command runs once."""
    proxy = StartingProxy(database_url)
    proxy.refuses = 10**6
    async with proxy.serving() as url:
        standby = StandbySettings(
            dead_after=2.0, instance_dead_after=2.0, jobs_per_worker=200, wake=WakeTarget(url=url, secret=SECRET)
        )
        settings = Settings(database_url=database_url, public_url="", worker=None, standby=standby)
        async with running(settings) as api, running(settings), agent_running(api, tmp_path) as agent:
            operator = Operator(api, await api.operator())
            lost = await api.enrol("lost")
            async with await connect(database_url, role="onsembl_api") as conn:
                gone = await instances.register(conn, "a-dead-one:8400")
                await conn.execute(
                    "update agents set status = 'online', instance_id = %s, connected_at = now() where id = %s",
                    [gone, lost.id],
                )
            schedules = [
                await call_api(
                    operator,
                    "POST",
                    "/v1/schedules",
                    {
                        "name": f"in-{seconds}",
                        "text": f"echo x >> {tmp_path}/ran-{seconds}",
                        "at": (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(),
                        "target": {"agents": [agent.id]},
                    },
                    201,
                )
                for seconds in (1, 2)
            ]

            async def runs() -> list[dict]:
                found = [await call_api(operator, "GET", f"/v1/schedules/{made['id']}/runs") for made in schedules]
                return [run for page in found for run in page["runs"]]

            async def both_fired() -> bool:
                return len(await runs()) == 2

            await until(both_fired, "both schedules have fired")

            async def is_offline() -> bool:
                return (await call_api(operator, "GET", f"/v1/agents/{lost.id}"))["status"] == "offline"

            await until(is_offline, "the dead instance's agent is offline")
            assert proxy.workers == []
            proxy.refuses = 0
            for run in await runs():
                assert (await operator.until_state({"id": run["command_id"]}, *FINAL))["state"] == "succeeded"
            await woken(proxy, 1)
            assert len(await runs()) == 2
            assert [(tmp_path / f"ran-{seconds}").read_text() for seconds in (1, 2)] == ["x\n", "x\n"]
