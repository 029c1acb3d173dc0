"""An API process without a worker: it wakes one when jobs wait, and fires schedules itself."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.agents import FINAL, Operator, agent_running, until
from support.api_calls import call_api
from support.control_center import clean_environment
from support.forked import ForkedProcess, fork_onsembl
from support.ports import free_port
from support.server import running

from onsembl.api.settings import Settings
from onsembl.protocol.waking import WakeTarget
from onsembl.tasks.standby import StandbySettings

SECRET = "wake up, please"


class StartingProxy:
    """Starts a worker on a request and passes the request on to it, as Fly's proxy starts a stopped machine."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
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
            options = ("--until-idle", "--wake-port", str(port), "--database-url", self._database_url)
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
