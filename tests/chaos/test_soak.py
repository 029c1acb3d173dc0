"""Faults of every kind, several at a time, while agents run many short commands: nothing is stuck, nothing ran twice,
nothing is lost of what succeeded.

`ONSEMBL_SOAK_SECONDS` is the length of the long form (default 900). `--seed` repeats the random choices of a run, which
prints its seed. The agents' disks fill where the tests may mount some (root), in the long form the database's too.
Postgres' clock jumps where libfaketime is installed.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from chaos.chaos import ACKNOWLEDGED_BEFORE_IT_IS_ARCHIVED, Chaos
from chaos.parts import AgentPart, Part
from chaos.writer import BEGIN, END
from support.agents import FINAL, until
from support.archive import archived_bytes, until_archived
from support.clocks import PostgresWithClock, ProcessClock
from support.disks import Disk, small_disk
from support.folders import copy_folder, data_folder
from support.missing_guards import without

from onsembl.agent.process.tree import COMMAND_ID_VARIABLE
from onsembl.fleet.audit_seal import verify
from onsembl.sql.database import connect

LONG = float(os.environ.get("ONSEMBL_SOAK_SECONDS", "900"))
FAST = {"fsync": "off", "full_page_writes": "off", "max_connections": "100"}
SOON = {"ONSEMBL_INSTANCE_DEAD_AFTER": "8", "ONSEMBL_DEAD_AFTER": "4", "ONSEMBL_AGENT_ACCESS_TOKEN": "30"}
BEGUN = re.compile(BEGIN.replace(b"%d", rb"(\d+)"))
AGENT_DISK_MEGABYTES = 16
DATABASE_DISK_MEGABYTES = 400
SETTLE_SECONDS = 240.0
"""How long everything may take to come to rest after the last fault, on a slow machine."""
ARCHIVE_SECONDS = 20.0
"""How long the last bytes of a command may take to the archive."""
LIMIT_SECONDS = 1800
"""No command runs for so long. Clocks jump by more."""
NOT_TAKEN_UP = "The agent did not take the command up."
"""How a command may fail that was offered again and again while something was down."""
EXPECTED = (409, 429, 503)
"""Answers that are no fault: the command to cancel has ended, requests are too many, or the database is not there."""
READ = ("/v1/agents", "/v1/commands", "/v1/jobs", "/v1/jobs/workers", "/v1/audit", "/v1/alerts", "/v1/statistics")


@dataclass(frozen=True, slots=True)
class Form:
    """How long the faults go on, how long each of them lasts, and how many agents there are. Times in seconds."""

    seconds: float
    shortest: float
    longest: float
    agents: int
    most_at_once: int
    fills_database_disk: bool = False
    faults: int = 0
    """How many faults are caused at least."""
    most_pause: float | None = None
    """The longest pause between the beginnings of two faults; half of the longest fault, unless it is given."""


@dataclass(slots=True)
class Sent:
    """A command that was sent: what it writes between the marks, and how it ends if nothing disturbs it."""

    number: int
    agent: int
    payload: bytes
    exit_code: int
    row: dict | None = None
    cancelled: bool = False


class Soak(Chaos):
    """A system whose agents run short commands, and faults that stop, fill and shift its parts for a while."""

    expected = EXPECTED
    """Answers that are no fault."""

    def __init__(self, seed: int, stack: AsyncExitStack, form: Form) -> None:
        super().__init__(seed, stack, form.agents)
        self.form = form
        self.sent: list[Sent] = []
        self.killed: set[int] = set()
        """The agents that were killed: what they ran at that moment is lost."""
        self.statuses: Counter[int] = Counter()
        self.unexpected: list[str] = []
        self._sending = True

    async def start(self, postgres: PostgresWithClock, folder: Path, **environment: str) -> None:
        self.server = postgres
        self.clocks = {name: ProcessClock(folder / f"clock-{name}") for name in ("api", "agents")}
        await self.start_server(postgres, folder, **SOON, **self.clocks["api"].environment, **environment)
        self.stack.push_async_callback(_cancel, asyncio.create_task(self.postgres.keep_running()))
        self.disks: list[Disk] = []
        self.parts: list[AgentPart] = []
        self.ids: list[str] = []
        for number in range(self.form.agents):
            name, state = f"agent-{number}", folder / f"disk-{number}"
            if disk := self.stack.enter_context(small_disk(state, AGENT_DISK_MEGABYTES)):
                self.disks.append(disk)
            agent = AgentPart(folder, name, state, ONSEMBL_KEYRING="off", **self.clocks["agents"].environment)
            self.ids.append(await agent.enrol(self.operator.api, name, state, self.agents_link.url))
            await agent.start()
            self.stack.push_async_callback(agent.stop)
            self.parts.append(agent)
            self.steady.append(self._viewer(self.ids[-1]))
        await until(self._all_online, "the agents")

    async def _all_online(self) -> bool:
        answer = await self._insist("GET", "/v1/agents")
        return all(agent["status"] == "online" for agent in answer["agents"])

    # What operators do

    async def call(self, method: str, path: str, **request) -> httpx.Response | None:
        """The answer to a request; None if there is none now."""
        try:
            response = await self.operator.api.http.request(
                method, path, headers=self.operator.headers | request.pop("headers", {}), timeout=15, **request
            )
        except httpx.TransportError:
            return None
        self.statuses[response.status_code] += 1
        if response.status_code == 401:  # a clock has jumped
            with suppress(httpx.HTTPError):
                account = await self.operator.api.operator()
                self.operator.headers = account.headers
                for viewer in self.steady:
                    viewer.renew(account.access_token)
        elif response.status_code >= 400 and response.status_code not in self.expected:
            self.unexpected.append(f"{method} {path}: {response.status_code} {response.text[:300]}")
        return response if response.status_code < 400 else None

    async def _insist(self, method: str, path: str, **request) -> dict:
        while (response := await self.call(method, path, **request)) is None:
            await asyncio.sleep(0.2)
        return response.json()

    async def _send(self, agent: int) -> Sent:
        """Send a command, once whatever happens to the answer."""
        number = len(self.sent)
        payload = BEGIN % number + self.chance.randbytes(self.chance.choice((10, 1_000, 20_000, 60_000))) + END % number
        sent = Sent(number, agent, payload, self.chance.choice((0, 0, 0, 3)))
        self.sent.append(sent)
        file = self.folder / f"payload-{number}"
        file.write_bytes(payload)
        pause = self.chance.choice((0, 0, self.chance.uniform(0, self.form.longest / 4)))
        text = (
            f"stty raw -echo; echo {number} >> {self.folder}/ran-{number}; cat {file};"
            f" sleep {pause:.2f}; exit {sent.exit_code}"
        )
        sent.row = await self._insist(
            "POST",
            f"/v1/agents/{self.ids[agent]}/commands",
            json={"text": text, "limits": {"work_seconds": LIMIT_SECONDS}},
            headers={"Idempotency-Key": f"soak-{number}"},
        )
        return sent

    async def send_commands(self, agent: int) -> None:
        """Keep a short queue filled, and cancel now and then."""
        waiting: list[Sent] = []
        while self._sending:
            waiting.append(await self._send(agent))
            if self.chance.random() < 0.08:
                waiting[-1].cancelled = True
                await self.call("POST", f"/v1/commands/{waiting[-1].row['id']}/cancel", json={})
            while self._sending and len(waiting) >= 3:
                row = await self._insist("GET", f"/v1/commands/{waiting[0].row['id']}")
                if row["state"] in FINAL:
                    waiting.pop(0)
                else:
                    await asyncio.sleep(0.2)

    async def read_pages(self) -> None:
        """Read what operators look at."""
        while self._sending:
            for path in READ:
                await self.call("GET", path)
                await asyncio.sleep(0.3)

    # Faults: each is over when it returns

    async def _while(self) -> None:
        await asyncio.sleep(self.chance.uniform(self.form.shortest, self.form.longest))

    async def _stop(self, part: Part) -> None:
        part.freeze()
        try:
            await self._while()
        finally:
            part.thaw()

    async def stop_api(self) -> None:
        await self._stop(self.api)

    async def stop_worker(self) -> None:
        await self._stop(self.worker)

    async def stop_agent(self) -> None:
        await self._stop(self.chance.choice(self.parts))

    async def stop_postmaster(self) -> None:
        await self._stop_processes([self.postgres.postmaster])

    async def stop_backends(self) -> None:
        backends = self.postgres.backends()
        await self._stop_processes(self.chance.sample(backends, min(3, len(backends))))

    async def _stop_processes(self, processes: list[psutil.Process]) -> None:
        with suppress(psutil.NoSuchProcess):
            for process in processes:
                process.suspend()
        try:
            await self._while()
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGCONT)

    async def kill_api(self) -> None:
        await self.api.kill()
        await self._while()  # it starts again

    async def kill_agent(self) -> None:
        number = self.chance.randrange(len(self.parts))
        self.killed.add(number)
        await self.parts[number].kill()

    async def kill_backend(self) -> None:
        if backends := self.postgres.backends():
            with suppress(psutil.NoSuchProcess):
                self.chance.choice(backends).send_signal(signal.SIGKILL)

    async def hold_agents(self) -> None:
        await self._hold(self.agents_link)

    async def hold_viewers(self) -> None:
        await self._hold(self.viewers_link)

    async def _hold(self, link) -> None:
        link.hold(self.chance.choice(("requests", "answers")))
        await self._while()
        link.mend()

    async def fill_agent_disk(self) -> None:
        await self._fill(self.chance.choice(self.disks))

    async def fill_database_disk(self) -> None:
        assert self.database_disk is not None
        await self._fill(self.database_disk)

    async def _fill(self, disk: Disk) -> None:
        await asyncio.to_thread(disk.fill)
        await self._while()
        disk.empty()

    database_disk: Disk | None = None

    async def jump_database_clock(self) -> None:
        self.server.set_clock(self.chance.choice((-3600, -60, 60, 3600)))
        await self._while()
        self.server.set_clock(0)

    async def jump_process_clock(self) -> None:
        clock = self.chance.choice(list(self.clocks.values()))
        clock.set(self.chance.choice((-3600, -60, 60, 3600)))
        await self._while()
        clock.set(0.0)

    def kinds(self) -> dict[Callable[[], Awaitable[None]], str]:
        """The faults that can be caused here, each with the part that it disturbs."""
        found: dict[Callable[[], Awaitable[None]], str] = {
            self.cut_agents: "agents' link",
            self.sever_agents: "agents' link",
            self.hold_agents: "agents' link",
            self.cut_viewers: "viewers' link",
            self.hold_viewers: "viewers' link",
            self.stop_api: "api",
            self.kill_api: "api",
            self.stop_worker: "worker",
            self.kill_worker: "worker",
            self.stop_agent: "agent",
            self.kill_agent: "agent",
            self.stop_postmaster: "postgres",
            self.stop_backends: "postgres",
            self.kill_backend: "postgres",
            self.kill_postgres: "postgres",
            self.jump_process_clock: "process clock",
        }
        if self.disks:
            found[self.fill_agent_disk] = "agent"
        if self.database_disk is not None:
            found[self.fill_database_disk] = "postgres"
        if self.server.has_clock:
            found[self.jump_database_clock] = "database clock"
        return found

    async def cause_faults(self, only: str | None = None) -> None:
        """Cause faults until the time is over and every kind has come, one at a time in each part, each kind before any
        comes again; or only faults of the kind of this name."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.form.seconds
        kinds, deck = {kind: part for kind, part in self.kinds().items() if only in (None, kind.__name__)}, []
        busy: dict[asyncio.Task[None], str] = {}
        names = {kind.__name__ for kind in kinds}
        while loop.time() < end or self.done.total() < self.form.faults or not self.done.keys() >= names:
            if not deck:
                deck = list(kinds)
                self.chance.shuffle(deck)
            fault = next((kind for kind in deck if kinds[kind] not in busy.values()), None)
            if fault is not None and len(busy) < self.form.most_at_once:
                deck.remove(fault)
                self.done[fault.__name__] += 1
                busy[asyncio.create_task(fault(), name=fault.__name__)] = kinds[fault]
            most = self.form.longest / 2 if self.form.most_pause is None else self.form.most_pause
            await asyncio.sleep(self.chance.uniform(0.2, most))
            for task in [task for task in busy if task.done()]:
                del busy[task]
                task.result()
        await asyncio.gather(*busy)

    async def run_soak(self, only: str | None = None) -> None:
        """Cause the faults while commands run, or only those of the kind of this name, and come to rest."""
        longest = self.form.seconds + self.form.faults * self.form.longest
        async with asyncio.timeout(longest + SETTLE_SECONDS), asyncio.TaskGroup() as group:
            for agent in range(self.form.agents):
                group.create_task(self.send_commands(agent))
            group.create_task(self.read_pages())
            await self.cause_faults(only)
            self._sending = False

    # What holds afterwards

    async def check(self) -> None:
        """Raises AssertionError, with all that is wrong."""
        wrong = list(self.unexpected)
        for sent in self.sent:
            await self._settle(sent)
        for sent in [await self._send(agent) for agent in range(self.form.agents)]:
            await self._settle(sent)
        outputs = {sent.number: await self._output(sent.row) for sent in self.sent}
        async with await connect(self.database_url) as conn:
            streams = [str(row["id"]) for row in await (await conn.execute("select id from streams")).fetchall()]
        archive = {stream: await self._archived(stream) for stream in streams}
        begun = Counter(int(number) for whole in archive.values() for number in BEGUN.findall(whole))
        for sent in self.sent:
            wrong += self._wrong_with(sent, outputs[sent.number], begun[sent.number])
        for number, viewer in enumerate(self.steady):
            for stream, start, seen in (*viewer.past, viewer.present):
                if stream and not archive[stream].startswith(seen, start):
                    wrong.append(f"a viewer of agent {number} saw other bytes than the archive has, from {start}")
            if number not in self.killed and viewer.past:
                wrong.append(f"a viewer lost its place: {viewer.faults}")
        async with await connect(self.database_url) as conn:
            verifier = await verify(conn, frozenset())
        wrong += [f"the chain: {finding}" for finding in verifier.findings]
        ids = {sent.row["id"] for sent in self.sent}
        wrong += [f"a process is left: {process}" for process in _processes_of(ids)]
        states = Counter(sent.row["state"] for sent in self.sent)
        print(f"faults: {dict(self.done)}; commands: {dict(states)}; answers: {dict(self.statuses)}")
        print(f"{sum(map(len, archive.values()))} bytes archived in {len(archive)} streams")
        assert wrong == [], f"--seed {self.seed}:\n" + "\n".join(wrong)

    async def _settle(self, sent: Sent) -> None:
        """Wait for the command's end. Raises AssertionError when it does not come."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while True:
                    sent.row = await self._insist("GET", f"/v1/commands/{sent.row['id']}")
                    if sent.row["state"] in FINAL:
                        return
                    await asyncio.sleep(0.1)
        raise AssertionError(f"stuck: {sent.row}")

    async def _output(self, row: dict) -> bytes:
        """The output of a command, once all of it is archived. It may go on in another stream."""
        start, end = row["output_start"], row["output_end"]
        if row["stream_id"] is None or end is None:
            return b""
        response: httpx.Response | None = None
        with suppress(TimeoutError):  # else bytes are missing
            async with asyncio.timeout(ARCHIVE_SECONDS):
                while response is None or len(response.content) < end - start:
                    response = await self.call(
                        "GET", f"/v1/streams/{row['stream_id']}/output", params={"start": start, "end": end}
                    )
        return response.content if response is not None else b""

    async def _archived(self, stream: str) -> bytes:
        """The stream's bytes, once they are all there that a viewer has seen."""
        ends = [start + len(seen) for other, start, seen in self._seen() if other == stream]
        with suppress(TimeoutError):  # else they are missing
            return await until_archived(self.database_url, stream, max(ends, default=0))
        return await archived_bytes(self.database_url, stream)

    def _seen(self) -> Iterator[tuple[str | None, int, bytes]]:
        for viewer in self.steady:
            yield from (*viewer.past, viewer.present)

    def _wrong_with(self, sent: Sent, output: bytes, begun: int) -> list[str]:
        row, name = sent.row, f"command {sent.number} of agent {sent.agent}"
        ran = self.folder / f"ran-{sent.number}"
        times = len(ran.read_text().splitlines()) if ran.exists() else 0
        wrong = [f"{name} ran {times} times"] if times > 1 else []
        if begun > 1:
            wrong.append(f"the output of {name} is archived {begun} times")
        told = (row["state"], row["exit_code"])
        as_the_program_ended = told == ("failed" if sent.exit_code else "succeeded", sent.exit_code)
        excused = (
            (row["state"] == "cancelled" and sent.cancelled)
            or (row["state"] == "lost" and sent.agent in self.killed)
            or row["error"] == NOT_TAKEN_UP
        )
        if as_the_program_ended:
            if times != 1 or sent.payload not in output:
                place = f"{row['output_start']} to {row['output_end']} of {row['stream_id']}"
                wrong.append(f"{name} ended with {told}, ran {times} times, and has {len(output)} bytes from {place}")
        elif not excused:
            wrong.append(f"{name} ended with {told}: {row['error']}")
        return wrong


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _processes_of(command_ids: set[str]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(COMMAND_ID_VARIABLE) in command_ids:
                found.append(process)
    return found


@contextmanager
def _server(cluster: Path, disk: Disk | None, folder: Path):
    copy_folder(cluster, folder)
    server = PostgresWithClock(folder, FAST)
    server.start()
    try:
        yield server
    finally:
        if disk is not None:
            disk.empty()
        server.stop(signal.SIGQUIT)


@asynccontextmanager
async def soaking(cluster: Path, folder: Path, seed: int, form: Form, **environment: str) -> AsyncGenerator[Soak]:
    """Start the system; in the long form its database is on a disk of its own."""
    async with AsyncExitStack() as stack:
        data = stack.enter_context(data_folder())
        disk = None
        if form.fills_database_disk:
            disk = stack.enter_context(small_disk(data / "disk", DATABASE_DISK_MEGABYTES))
        server = stack.enter_context(_server(cluster, disk, data / "disk"))
        soak = Soak(seed, stack, form)
        soak.database_disk = disk
        await soak.start(server, folder, **environment)
        yield soak


@pytest.mark.seconds(15)
@pytest.mark.parametrize(
    "form",
    [
        pytest.param(Form(10.0, 0.5, 2.0, agents=2, most_at_once=3), id="short"),
        pytest.param(
            Form(LONG, 5.0, 40.0, agents=3, most_at_once=3, fills_database_disk=True),
            id="long",
            marks=[pytest.mark.soak, pytest.mark.timeout(3 * LONG + 1200)],
        ),
    ],
)
async def test_nothing_is_stuck_or_lost_or_done_twice(server_cluster, tmp_path, seed, form):
    """After kills and stops of every part, silent links, full disks and clocks that jump, every command has ended once
    and right, viewers and the archive have the bytes that succeeded, and the audit chain is whole."""
    async with soaking(server_cluster, tmp_path, seed, form) as soak:
        await soak.run_soak()
        await soak.check()


COMPARES_NOTHING = """
from onsembl.api.instances import instance
from onsembl.protocol.ownership import Differences

instance.differences = lambda *_: Differences()
"""


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("patch", "only", "form", "found"),
    [
        (ACKNOWLEDGED_BEFORE_IT_IS_ARCHIVED, "kill_api", Form(15.0, 5.0, 6.0, 2, 1), "bytes from|other bytes"),
        (COMPARES_NOTHING, "stop_api", Form(5.0, 14.0, 15.0, 1, 1), "stuck"),
    ],
    ids=["an early acknowledgement", "no comparison of connections"],
)
async def test_the_soak_reveals_a_missing_guard(server_cluster, tmp_path, seed, monkeypatch, patch, only, form, found):
    """Without a guard, faults of the right kind leave something lost or stuck, and the check fails."""
    monkeypatch.setattr(f"{__name__}.SETTLE_SECONDS", 30.0)
    async with soaking(server_cluster, tmp_path, seed, form, **without(tmp_path / "guard", patch)) as soak:
        with pytest.raises((AssertionError, TimeoutError), match=found):
            await soak.run_soak(only)
            await soak.check()
