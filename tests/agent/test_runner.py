"""The runner, on real processes: a command's end and its reports, and that no process outlives it."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest
from agent.conftest import PATIENT, QUICK, alone, sleeping, until

from onsembl.agent.process import cgroup
from onsembl.protocol.field_types import MAX_TEXT_BYTES

MODES = [pytest.param(True, id="adopting"), pytest.param(False, id="searching")]
if sys.platform != "linux":
    MODES = MODES[1:]

# A double fork: its own session, no living parent, no descriptor of the terminal; it ignores every signal but SIGKILL.
DAEMON = """
import os, signal, sys
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)
for descriptor in range(3): os.close(descriptor)
os.execvp("sleep", ["sleep", sys.argv[1]])
"""


@pytest.fixture
def daemon(tmp_path: Path) -> str:
    path = tmp_path / "daemon.py"
    path.write_text(DAEMON)
    return f"{sys.executable} {path}"


async def test_the_end_has_the_exit_status_and_the_range_of_the_output(tmp_path):
    """The range of the stream holds the command's header, its output and its exit line."""
    async with alone(tmp_path) as agent:
        end = await agent.run("echo $((40 + 2)); exit 3")
        assert (end["outcome"], end["exit_code"], end["signal"]) == ("failed", 3, None)
        output = agent.shown[end["output_start"] : end["output_end"]]
        assert b"echo $((40 + 2))" in output
        assert b"\r\n42\r\n" in output
        assert b"exit 3" in output
        end = await agent.run("kill -SEGV $$")
        assert (end["outcome"], end["exit_code"], end["signal"]) == ("failed", None, 11)
        assert (await agent.run("true"))["outcome"] == "succeeded"


async def test_a_command_offered_twice_runs_once(tmp_path):
    """While it runs, it is accepted again; after its end, the end is reported again. Once that is recorded, the report
    names no output, which a restored archive may not have."""
    async with alone(tmp_path) as agent:
        text = "echo ran >> log; until [ -e go ]; do sleep 0.05; done"
        command = agent.offer(text)
        first = await agent.report("accepted")
        agent.order("offer", command, text)
        assert await agent.report("accepted") == first
        (tmp_path / "go").touch()
        end = await agent.report("ended")
        agent.order("offer", command, text)
        assert await agent.report("ended") == end
        agent.order("recorded", command)
        for order in (("offer", command, text), ("cancel", command)):
            agent.order(*order)
            assert await agent.report("ended") == end | {"output_start": None, "output_end": None, "stream_id": None}
        assert (await agent.run("true"))["outcome"] == "succeeded"
    assert (tmp_path / "log").read_text() == "ran\n"


async def test_a_cancel_before_the_offer_wins(tmp_path):
    """A command that was cancelled before it was offered ends without running."""
    async with alone(tmp_path) as agent:
        command = "6f0a4ac5-98e4-4a55-a5b0-000000000001"
        agent.order("cancel", command)
        assert (await agent.report("ended"))["outcome"] == "cancelled"
        agent.order("offer", command, "touch ran")
        assert (await agent.report("ended"))["outcome"] == "cancelled"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("adopt", MODES)
async def test_a_program_that_takes_the_interrupt_ends_at_the_first_stage(tmp_path, nap, adopt):
    """Ctrl-C is enough, and no further stage follows."""
    async with alone(tmp_path, adopt=adopt, times=PATIENT) as agent:
        command = agent.offer(f"sleep {nap}")
        await until(lambda: sleeping(nap), "the sleeper")
        agent.order("cancel", command)
        end = await agent.report("ended")
        assert sleeping(nap) == []
        assert (end["outcome"], agent.steps()) == ("cancelled", ["interrupt"])


@pytest.mark.parametrize("adopt", MODES)
async def test_a_program_that_ignores_every_signal_is_killed(tmp_path, nap, adopt):
    """Every stage follows, and `cancelled` is reported when no process is left."""
    async with alone(tmp_path, adopt=adopt) as agent:
        command = agent.offer(f"trap '' INT TERM HUP; sleep {nap}; sleep {nap}; sleep {nap}")
        await until(lambda: sleeping(nap), "the sleeper")
        agent.order("cancel", command)
        end = await agent.report("ended")
        assert sleeping(nap) == []
        assert (end["outcome"], end["signal"]) == ("cancelled", 9)
        assert agent.steps()[:4] == ["interrupt", "sigint", "sigterm", "sigkill"]
        counts = [report["processes_left"] for report in agent.reports if report["type"] == "cancel_step"]
        assert counts[0] == 2


@pytest.mark.parametrize("adopt", MODES)
async def test_processes_that_left_the_group_are_found_and_killed(tmp_path, nap, daemon, adopt):
    """A session of its own, a dead parent and ignored signals do not save a process."""
    async with alone(tmp_path, adopt=adopt) as agent:
        command = agent.offer(f"{daemon} {nap}; setsid nohup sleep {nap} & sleep {nap}")
        await until(lambda: len(sleeping(nap)) == 3, "three sleepers")
        agent.order("cancel", command)
        end = await agent.report("ended")
        assert sleeping(nap) == []
        assert end["outcome"] == "cancelled"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux makes the agent adopt orphans")
async def test_processes_without_their_environment_are_found_and_killed(tmp_path, nap, daemon):
    """The variable is gone, but the agent is still their parent."""
    async with alone(tmp_path, adopt=True) as agent:
        command = agent.offer(f"env -i {daemon} {nap}; sleep {nap}")
        await until(lambda: len(sleeping(nap)) == 2, "both sleepers")
        agent.order("cancel", command)
        assert (await agent.report("ended"))["outcome"] == "cancelled"
        assert sleeping(nap) == []


@pytest.mark.parametrize("adopt", MODES)
async def test_leftover_processes_end_with_their_command(tmp_path, nap, daemon, adopt):
    """The command ends with its leader; its end is reported when the leftover processes are gone too."""
    async with alone(tmp_path, adopt=adopt) as agent:
        end = await agent.run(f"sleep {nap} & nohup sleep {nap} & {daemon} {nap}; exit 4")
        assert sleeping(nap) == []
        assert (end["outcome"], end["exit_code"], agent.steps()) == ("failed", 4, [])


async def test_a_suspended_program_can_handle_sigterm(tmp_path, nap):
    """It is continued, so that it can clean up."""
    async with alone(tmp_path, times={**QUICK, "sigterm": 60.0}) as agent:
        text = f"trap 'touch cleaned; exit 0' TERM; trap '' INT; sleep {nap} & kill -STOP $$; wait"
        command = agent.offer(text)
        await until(lambda: sleeping(nap), "the sleeper")
        shell = psutil.Process(sleeping(nap)[0]).parent()
        await until(lambda: shell.status() == psutil.STATUS_STOPPED, "suspended")
        agent.order("cancel", command)
        assert (await agent.report("ended"))["outcome"] == "cancelled"
        assert sleeping(nap) == []
    assert (tmp_path / "cleaned").exists()


async def test_no_zombie_is_kept(tmp_path):
    """Orphans that end while a command runs are reaped at once."""
    async with alone(tmp_path) as agent:
        agent.offer(
            "for n in 1 2 3 4 5; do (setsid true &) ; done; sleep 0.3; touch done; until [ -e go ]; do sleep 0.05; done"
        )
        await until((tmp_path / "done").exists, "done")
        me = psutil.Process(agent.process.pid)
        await until(lambda: [child.status() for child in me.children()].count(psutil.STATUS_ZOMBIE) == 0, "no zombie")
        (tmp_path / "go").touch()
        assert (await agent.report("ended"))["outcome"] == "succeeded"
        assert me.children() == []


async def test_an_agent_cleans_up_after_a_killed_run(tmp_path, nap, daemon):
    """After `kill -9`, the next run stops the processes, then reports the command lost; ids are still known."""
    async with alone(tmp_path) as agent:
        finished = agent.offer("echo ran >> log")
        await agent.report("ended")
        command = agent.offer(f"echo ran >> log; {daemon} {nap}; trap '' HUP; sleep {nap}")
        await until(lambda: len(sleeping(nap)) == 2, "both sleepers")
        agent.process.kill()
    assert len(sleeping(nap)) >= 1
    async with alone(tmp_path) as agent:
        ends = [await agent.report("ended") for _ in range(2)]
        assert sleeping(nap) == []
        assert {end["command_id"]: end["outcome"] for end in ends} == {finished: "succeeded", command: "lost"}
        assert all(end["output_start"] is None or end["output_end"] is not None for end in ends)
        agent.order("recorded", finished)
        agent.order("recorded", command)
        agent.order("offer", finished, "echo ran >> log")
        agent.order("offer", command, "echo ran >> log")
        assert (await agent.run("true"))["outcome"] == "succeeded"
    assert (tmp_path / "log").read_text() == "ran\nran\n"


async def test_a_process_that_left_everything_is_found_by_its_cgroup_after_a_kill(tmp_path, nap, daemon):
    """It has a session of its own, no parent and no environment. Where the agent may not make cgroups, it is missed."""
    async with alone(tmp_path) as agent:
        command = agent.offer(f"env -i {daemon} {nap}; sleep {nap}")
        await until(lambda: len(sleeping(nap)) == 2, "both sleepers")
        assert len(cgroup.find(command)) == (cgroup.make("probe") is not None)
        agent.process.kill()
    async with alone(tmp_path) as agent:
        assert (await agent.report("ended"))["outcome"] == "lost"
        assert (sleeping(nap) == []) == (cgroup.make("probe") is not None)
        assert cgroup.find(command) == []
    for pid in sleeping(nap):
        psutil.Process(pid).kill()
    for path in cgroup.find("probe"):
        cgroup.remove(path)


async def test_a_stopped_agent_stops_its_command_and_accepts_no_more(tmp_path, nap):
    """The command is stopped by an escalation, and its end has the reason."""
    async with alone(tmp_path) as agent:
        agent.offer(f"sleep {nap}")
        await until(lambda: sleeping(nap), "the sleeper")
        agent.shut_down()
        end = await agent.report("ended")
        assert (end["outcome"], end["error"]) == ("cancelled", "The agent was stopped.")
        assert sleeping(nap) == []


async def test_a_stopped_agent_shortens_an_escalation(tmp_path, nap):
    """An escalation that began with an hour for each stage ends soon."""
    async with alone(tmp_path, times={"interrupt": 3600, "sigterm": 3600}) as agent:
        command = agent.offer(f"trap '' INT TERM; sleep {nap}; sleep {nap}")
        await until(lambda: sleeping(nap), "the sleeper")
        agent.order("cancel", command)
        await agent.report("cancel_step")
        agent.shut_down()
        end = await agent.report("ended")
        assert sleeping(nap) == []
        assert (end["outcome"], [step["step"] for step in end["steps"]]) == ("cancelled", agent.steps())


async def test_the_first_command_replaces_the_startup_script(tmp_path, nap):
    """The first command stops the script and all its processes."""
    (tmp_path / "startup.sh").write_text(f"echo hello; sleep {nap}")
    async with alone(tmp_path) as agent:
        await agent.until_shown(b"hello")
        await until(lambda: sleeping(nap), "the sleeper")
        end = await agent.run("echo mine")
        assert end["outcome"] == "succeeded"
        assert sleeping(nap) == []
        assert agent.reports[0]["type"] == "accepted"


async def test_a_command_that_cannot_be_started_fails_with_the_reason(tmp_path):
    """The CLI is not on this machine: the command's end has the reason, and the agent goes on."""
    async with alone(tmp_path, kind="claude", PATH="/nonexistent") as agent:
        end = await agent.run("hello")
        assert end["outcome"] == "failed"
        assert "No such file" in end["error"]
        assert (await agent.run("hello"))["outcome"] == "failed"


async def test_a_command_line_runs_as_it_was_written(tmp_path):
    """A dash at its beginning is no option of bash, a text of a file of Windows runs like another, and the longest text
    of three-byte characters fits into an argument."""
    async with alone(tmp_path) as agent:
        end = await agent.run("-c 'touch option'")
        assert end["exit_code"] == 127, "a command of that name is looked for"
        for windows_text in ("\ufeffif true; then\r\n  pwd > place\r\nfi\r\n", "true\r\ntrue\r"):
            assert (await agent.run(windows_text))["outcome"] == "succeeded"
        end = await agent.run(": " + "語" * ((MAX_TEXT_BYTES - 2) // 3))
        assert end["outcome"] == "succeeded"
    assert not (tmp_path / "option").exists()
    assert (tmp_path / "place").read_text() == f"{tmp_path}\n"


async def test_a_command_waits_while_the_journal_cannot_be_written(tmp_path):
    """A command that is not in the journal could run twice, so it does not run; offered again, it runs once."""
    async with alone(tmp_path) as agent:
        assert (await agent.run("true"))["outcome"] == "succeeded"
        limit = psutil.Process(agent.process.pid).rlimit(psutil.RLIMIT_FSIZE)
        size = (tmp_path / "journal.jsonl").stat().st_size
        psutil.Process(agent.process.pid).rlimit(psutil.RLIMIT_FSIZE, (size + 10, limit[1]))
        command = agent.offer("echo ran >> log")
        assert "journal" in (await agent.report("cannot_write"))["error"]
        assert [report for report in agent.reports if report.get("command_id") == command] == []
        psutil.Process(agent.process.pid).rlimit(psutil.RLIMIT_FSIZE, limit)
        agent.order("offer", command, "echo ran >> log")
        end = await agent.report("ended")
        assert (end["command_id"], end["outcome"]) == (command, "succeeded")
    assert (tmp_path / "log").read_text() == "ran\n"


async def test_control_characters_of_a_command_do_not_reach_the_terminal(tmp_path):
    """The line that shows the command has only printable text."""
    async with alone(tmp_path) as agent:
        await agent.run(": '\x1b]0;owned\x07\x1b[2J'")
        assert b"owned" not in agent.shown
        assert b"\x1b[2J" not in agent.shown
