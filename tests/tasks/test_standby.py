"""An API process without a worker: it wakes one when jobs wait, and fires schedules itself."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from procrastinate import periodic
from support.agents import FINAL, Operator, agent_running, until
from support.api_calls import call_api
from support.control_center import clean_environment
from support.forked import ForkedProcess, fork_onsembl
from support.frames import HELLO_TEXT, next_message
from support.ports import free_port
from support.server import running
from websockets.asyncio.client import ClientConnection

from onsembl.api.settings import Settings
from onsembl.fleet.listener import Listener
from onsembl.protocol import waking
from onsembl.protocol.backoff import Backoff
from onsembl.protocol.waking import WakeTarget
from onsembl.sql import instances
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.database import connect
from onsembl.sql.process_database import FEWEST_FOR_API, ProcessDatabase
from onsembl.tasks import standby
from onsembl.tasks.app import HOURLY, PERIODIC
from onsembl.tasks.standby import StandbySettings, stand_by

pytestmark = pytest.mark.timeout(900)  # processes start, which is slow beside much else
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
        self._requests: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self):
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/wake"
        finally:
            server.close()
            await asyncio.gather(*self._requests)
            for worker in self.workers:
                if worker.returncode is None:
                    worker.terminate()
                await worker.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio forgets the task of a connection that its client has closed, and it would be collected as garbage.
        request = asyncio.ensure_future(self._serve(reader, writer))
        request.add_done_callback(lambda _: writer.close())
        self._requests.add(request)
        await request

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
            worker = await fork_onsembl("worker", *options, env=environment)
            self.workers.append(worker)
            writer.write(await _passed_on(worker, port, request))


async def _passed_on(worker: ForkedProcess, port: int, request: bytes) -> bytes:
    """The worker's answer; nothing when it has exited before."""
    while worker.returncode is None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request.replace(b"keep-alive", b"close"))
            answer = await reader.readuntil(b"\r\n\r\n")
            writer.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.05)
        else:
            return answer
    return b""


@asynccontextmanager
async def standing_by(database_url: str, settings: StandbySettings):
    """What an instance without a worker does besides serving, over the fewest connections."""
    listener = Listener(database_url)
    async with ProcessDatabase(database_url, FEWEST_FOR_API, api=True) as database:
        tasks = [asyncio.create_task(work) for work in (listener.run(), stand_by(database, listener, settings))]
        try:
            yield
        finally:
            await cancel_until_done(tasks)


async def test_a_worker_is_woken_when_jobs_wait_and_ends_when_none_is_left(database_url: str, tmp_path: Path):
    """Without a worker, a command wakes one, also if the first request fails; the worker ends. A schedule fires without
    a worker, and its command wakes the next one."""
    proxy = StartingProxy(database_url)
    async with proxy.serving() as url:
        by = StandbySettings(
            dead_after=60.0, instance_dead_after=60.0, jobs_per_worker=200, wake=WakeTarget(url=url, secret=SECRET)
        )
        settings = Settings(database_url=database_url, public_url="", worker=None)
        async with running(replace(settings, standby=by)) as api:
            operator = Operator(api, await api.operator())
            async with agent_running(api, tmp_path) as agent:
                command = await operator.send(agent.id, "echo first")
                assert (await operator.until_state(command, *FINAL))["state"] == "succeeded"
                await woken(proxy, 1)
                assert proxy.asked > len(proxy.workers), "the first request was refused"

                async def none_wanted() -> bool:
                    return await call_api(operator, "GET", "/v1/jobs/workers") == {
                        "load": 0,
                        "wanted": 0,
                        "workers": [],
                    }

                await until(none_wanted, "no worker is alive or wanted")
                before = len(proxy.workers)
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
    for worker in proxy.workers:
        assert await worker.wait() == 0


PER_WORKER = 8
LONG = 3600.0


@pytest.mark.parametrize(
    ("commands", "agents", "workers"), [(36, 17, 3), pytest.param(200, 73, 10, marks=pytest.mark.soak)]
)
async def test_as_many_workers_as_are_wanted_come_and_go(
    database_url: str, monkeypatch: pytest.MonkeyPatch, commands: int, agents: int, workers: int
):
    """Each agent has one job at a time. Two instances wake the workers that are wanted for these jobs and not one more;
    all commands end, and every worker exits.

    There is room for a few periodic jobs beside those of the commands.
    """
    for module in (waking, standby):
        monkeypatch.setattr(module, "START_SECONDS", LONG)
    silence = ("--dead-after", str(LONG), "--instance-dead-after", str(LONG))
    proxy = StartingProxy(database_url, "--concurrency", str(PER_WORKER), *silence)
    proxy.refuses = 0
    settings = Settings(
        database_url=database_url, public_url="", worker=None, jobs_per_worker=PER_WORKER, heartbeat=LONG
    )  # the agents answer no ping while they wait
    async with proxy.serving() as url, AsyncExitStack() as stack:
        api = await stack.enter_async_context(running(settings))
        operator = Operator(api, await api.operator())
        ended: set[str] = set()
        go = asyncio.Event()
        enrolled = [await api.enrol(f"agent-{number}") for number in range(agents)]
        for agent in enrolled:
            socket = await stack.enter_async_context(api.agent_socket(agent))
            await socket.send(HELLO_TEXT)
            await next_message(socket, "welcome")
            task = asyncio.create_task(_end_commands(socket, go, ended))
            stack.push_async_callback(cancel_until_done, [task])
        for number in range(commands):
            await operator.send(enrolled[number % agents].id, f"echo {number}")
        by = StandbySettings(
            dead_after=LONG,
            instance_dead_after=LONG,
            jobs_per_worker=PER_WORKER,
            wake=WakeTarget(url=url, secret=SECRET),
        )
        for _ in range(2):
            await stack.enter_async_context(standing_by(database_url, by))

        async def as_many_as_wanted() -> bool:
            found = await call_api(operator, "GET", "/v1/jobs/workers")
            return len(found["workers"]) == found["wanted"] == workers

        await until(as_many_as_wanted, "the workers that are wanted", LONG)
        assert proxy.asked == workers
        monkeypatch.undo()
        go.set()

        async def all_ended() -> bool:
            return len(ended) == commands

        await until(all_ended, "all commands have ended", LONG)
        await woken(proxy, workers)


async def _end_commands(socket: ClientConnection, go: asyncio.Event, ended: set[str]) -> None:
    """Accept each command, and end it once the event is set. One that is offered again is answered again, and its end
    is the same."""
    times: dict[str, str] = {}
    async for text in socket:
        message = json.loads(text)
        if message["type"] == "offer":
            id = message["command_id"]
            at = times.setdefault(id, datetime.now(UTC).isoformat())
            about = {"command_id": id, "started_at": at, "output_start": 0}
            await socket.send(json.dumps({"type": "accepted", **about}))
            await go.wait()
            end = {"outcome": "succeeded", "ended_at": at, "output_end": 0}
            await socket.send(json.dumps({"type": "ended", **about, **end}))
        elif message["type"] == "end_recorded":
            ended.add(message["command_id"])


async def test_nothing_needs_a_worker_to_be_alive(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """While no worker comes, a schedule that is due twice fires once each time, though two instances look for it, and
    the agents of a dead instance go offline. Then a worker is woken, and each command runs once."""
    monkeypatch.setattr(waking, "Backoff", lambda cap: Backoff(cap=min(cap, 1.0)))
    proxy = StartingProxy(database_url)
    proxy.refuses = 10**6
    async with proxy.serving() as url:
        by = StandbySettings(
            dead_after=12.0, instance_dead_after=8.0, jobs_per_worker=200, wake=WakeTarget(url=url, secret=SECRET)
        )
        settings = Settings(
            database_url=database_url,
            public_url="",
            worker=None,
            standby=by,
            instance_dead_after=by.instance_dead_after,
        )
        async with running(settings) as api, running(settings), agent_running(api, tmp_path) as agent:
            operator = Operator(api, await api.operator())
            lost = await api.enrol("lost")
            rule = {"cron": "0 0 29 2 *", "time_zone": "UTC", "target": {"agents": [agent.id]}}
            body = {"name": "leap-day", "text": f"echo x >> {tmp_path}/ran", **rule}
            schedule = await call_api(operator, "POST", "/v1/schedules", body, 201)

            async def runs() -> list[dict]:
                return (await call_api(operator, "GET", f"/v1/schedules/{schedule['id']}/runs"))["runs"]

            async def is_now(agent_id: str, status: str) -> bool:
                return (await call_api(operator, "GET", f"/v1/agents/{agent_id}"))["status"] == status

            await until(lambda: is_now(agent.id, "online"), "the agent is online")
            async with await connect(database_url, role="onsembl_api", autocommit=True) as conn:
                gone = await instances.register(conn, "a-dead-one:8400")
                await conn.execute(
                    "update agents set status = 'online', instance_id = %s, connected_at = now() where id = %s",
                    [gone, lost.id],
                )
                for times in (1, 2):
                    await conn.execute("update schedules set next_at = now()")

                    async def has_fired(times: int = times) -> bool:
                        return len(await runs()) == times

                    await until(has_fired, "the schedule has fired", LONG)
            await until(lambda: is_now(lost.id, "offline"), "the dead instance's agent is offline", LONG)
            assert proxy.workers == []
            proxy.refuses = 0

            async def both_succeeded() -> bool:
                return [run["counts"] for run in await runs()] == [{"succeeded": 1}] * 2

            await until(both_succeeded, "both commands have succeeded", LONG)
            await woken(proxy, 1)
            assert (tmp_path / "ran").read_text() == "x\nx\n"


async def test_due_retention_is_queued_without_a_worker(database_url: str, monkeypatch: pytest.MonkeyPatch):
    """An instance without a worker queues the periodic jobs of an hour when they are due."""
    due = 1_800_000_000 // 3600 * 3600 + 17 * 60
    monkeypatch.setattr(periodic, "time", SimpleNamespace(time=lambda: due + 1.0))
    by = StandbySettings(dead_after=LONG, instance_dead_after=LONG, jobs_per_worker=200)
    hourly = sorted(task for task, cron in PERIODIC.items() if cron == HOURLY)
    async with standing_by(database_url, by), await connect(database_url, autocommit=True) as conn:

        async def queued() -> bool:
            cursor = await conn.execute("select task_name from procrastinate_jobs order by task_name")
            return [row["task_name"] for row in await cursor.fetchall()] == hourly

        await until(queued, "the jobs of the hour")
