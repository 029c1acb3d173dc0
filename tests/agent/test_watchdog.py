"""The limits of a command, enforced by the agent on real processes."""

from __future__ import annotations

import asyncio
import json

import pytest
from agent.conftest import PATIENT, TESTS, alone, sleeping

from onsembl.agent import watchdog
from onsembl.agent.watchdog import watch_limits
from onsembl.protocol.limits import NO_LIMITS, CommandLimits
from onsembl.protocol.usage import Usage
from onsembl.protocol.work_clock import WorkClock


async def test_a_command_that_runs_too_long_is_stopped(tmp_path, nap):
    """It is stopped by an escalation; its end names the limit, and none of its processes is left."""
    async with alone(tmp_path) as agent:
        agent.offer(f"trap '' INT TERM; sleep {nap}; sleep {nap}", work_seconds=3)
        end = await agent.report("ended")
        assert sleeping(nap) == []
        assert (end["outcome"], end["limit"], end["error"]) == (
            "timed_out",
            "wall_seconds",  # as the release before calls it
            "Stopped: it worked for more than 3 s.",
        )
        assert agent.steps()[:4] == ["interrupt", "sigint", "sigterm", "sigkill"]
        assert b"timed out, it worked for more than 3 s" in agent.shown
        assert (await agent.run("true"))["outcome"] == "succeeded"


async def test_a_silent_command_is_stopped(tmp_path, nap):
    """Its earlier output is kept."""
    async with alone(tmp_path) as agent:
        agent.offer(f"echo so far; sleep {nap}", idle_seconds=3, work_seconds=3600)
        end = await agent.report("ended")
        assert sleeping(nap) == []
        assert (end["outcome"], end["limit"]) == ("timed_out", "idle_seconds")
        assert b"so far" in agent.shown


async def test_the_server_can_stop_a_command_for_its_limit(tmp_path, nap):
    """The end names the server's limit; a command that was cancelled before stays cancelled."""
    async with alone(tmp_path) as agent:
        command = agent.offer(f"sleep {nap}")
        await agent.report("accepted")
        agent.order("cancel", command, "work_seconds")
        end = await agent.report("ended")
        assert (end["outcome"], end["limit"]) == ("timed_out", "wall_seconds")
        command = agent.offer(f"trap '' INT; sleep {nap}; sleep {nap}")
        await agent.report("accepted")
        agent.order("cancel", command)
        agent.order("cancel", command, "work_seconds")
        end = await agent.report("ended")
        assert (end["outcome"], end.get("limit")) == ("cancelled", None)


async def test_too_many_tokens_stop_a_coding_cli(tmp_path, claude):
    """The CLI is interrupted in its own way, while it writes."""
    async with alone(tmp_path, kind="claude", times=PATIENT, **claude) as agent:
        agent.offer("interrupted KEEP_ON", tokens=50)
        end = await agent.report("ended")
        assert (end["outcome"], end["limit"], agent.steps()) == ("timed_out", "tokens", ["interrupt"])
        assert end["usage"]["input_tokens"] == 100


async def test_the_cli_enforces_the_cost_limit(tmp_path, claude):
    """Only the CLI knows the prices: it gets the limit as an argument, and reports that it stopped at the limit."""
    async with alone(tmp_path, kind="claude", **claude) as agent:
        agent.offer("over_budget", cost_usd=0.0001)
        end = await agent.report("ended")
        assert (end["outcome"], end["limit"], end["exit_code"]) == ("timed_out", "cost_usd", 1)
        assert end["usage"]["cost_usd"] > 0.0001
    argv = json.loads((tmp_path / "called.json").read_text())["argv"]
    assert argv[argv.index("--max-budget-usd") + 1] == "0.000100"


@pytest.fixture
def claude(tmp_path) -> dict[str, str]:
    """A search path with a `claude` on it that plays recorded runs."""
    import os

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "claude").symlink_to(TESTS / "support" / "fake_claude.py")
    return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "TRANSCRIPTS": str(TESTS / "agent" / "transcripts")}


class Running:
    """A run without a program."""

    class Program:
        def __init__(self) -> None:
            self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self.last_output = 0.0

    def __init__(self) -> None:
        self.process = self.Program()
        self.fault = None
        self.progressed = asyncio.Event()
        self.usage: Usage | None = None
        self.last_line = ""
        self.clock = WorkClock(asyncio.get_running_loop().time())

    def uses(self, tokens: int) -> None:
        self.usage = Usage(output_tokens=tokens)
        self.progressed.set()


async def test_usage_is_reported_as_it_grows():
    """Each usage is reported once, until the program ends."""
    run, reported = Running(), asyncio.Queue()
    watching = asyncio.create_task(watch_limits(run, NO_LIMITS, asyncio.Event(), reported.put_nowait, every=0.0))
    for tokens in (5, 7):
        run.uses(tokens)
        assert (await reported.get()).output_tokens == tokens
    run.progressed.set()
    run.process.exited.set_result(0)
    assert await watching is None
    assert reported.empty()


async def test_the_last_line_is_reported_when_it_has_changed(monkeypatch):
    """The first line at once, and later the newest one, of those that have come too soon."""
    monkeypatch.setattr(watchdog, "LINE_REPORT_SECONDS", 0.05)
    run, reported = Running(), asyncio.Queue()
    watching = asyncio.create_task(
        watch_limits(run, NO_LIMITS, asyncio.Event(), lambda _: None, report_line=reported.put_nowait)
    )
    for line in ("one", "two", "three"):
        run.last_line = line
        run.progressed.set()
        if line == "one":
            assert await reported.get() == "one"
    assert await reported.get() == "three"
    run.process.exited.set_result(0)
    await watching
    assert reported.empty()


async def test_an_exceeded_limit_ends_the_wait_at_once():
    """The wait does not last until the next usage report is due."""
    run = Running()
    watching = asyncio.create_task(
        watch_limits(run, CommandLimits(tokens=10), asyncio.Event(), lambda _: None, every=3600.0)
    )
    run.uses(10)
    run.uses(11)
    assert await watching == "tokens"


async def test_the_time_before_the_program_counts():
    """A command that took its whole time to fetch its files is over when its program begins."""
    started = asyncio.get_running_loop().time() - 60
    limits = CommandLimits(work_seconds=60)
    exceeded = await watch_limits(Running(), limits, asyncio.Event(), lambda _: None, started=started)
    assert exceeded == "work_seconds"


class Waiting(Running):
    """Waits for a person from the start. The clock is that of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.clock.request_opened("request", asyncio.get_running_loop().time())


async def test_waiting_for_a_person_is_no_work():
    """While a request is open no limit of work is exceeded; after it, the time without output counts anew. The clock is
    reported when it stands still, and when it goes on."""
    run, clocks = Waiting(), asyncio.Queue()
    limits = CommandLimits(work_seconds=3600, idle_seconds=0.01)
    watching = asyncio.create_task(
        watch_limits(
            run, limits, asyncio.Event(), lambda _: None, lambda clock: clocks.put_nowait(clock.stands_still), every=0.0
        )
    )
    assert await clocks.get()
    loop = asyncio.get_running_loop()
    later = loop.create_future()
    loop.call_later(0.03, later.set_result, None)
    await later
    assert not watching.done()
    run.clock.request_closed("request", loop.time())
    run.progressed.set()
    assert await watching == "idle_seconds"
    assert not clocks.get_nowait()


async def test_a_request_that_nobody_answers_ends_the_wait():
    """Its own limit ends a command that waits."""
    limits = CommandLimits(work_seconds=0.001, waiting_seconds=0.01)
    assert await watch_limits(Waiting(), limits, asyncio.Event(), lambda _: None) == "waiting_seconds"
