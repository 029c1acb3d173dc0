"""The load tests start, load a control center and judge the results, and a missing result is a failure."""

from __future__ import annotations

import importlib
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import psutil
import pytest
from support.control_center import ControlCenter
from support.folders import copy_folder, data_folder

FOLDER = Path(__file__).resolve().parents[1] / "loadtests"
LOAD = FOLDER / "load.py"
QUICK = ("--command-seconds", "0.4")
PATIENT = [f"--{row}-p99=60000" for row in ("terminal", "command", "key", "row", "cancel", "rotation", "storm")]
"""Thresholds that even a slow machine keeps."""


@pytest.fixture
def memory(monkeypatch, tmp_path, cluster):  # pytest's own folders stay in their place
    """The folder of a test's control center, whose database lies in the cluster that all tests share and is created
    already."""
    with data_folder() as folder:
        monkeypatch.setenv("LOAD_DATA", str(cluster))
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture
def part(monkeypatch):
    """Import a module of the load tests by its name."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.fixture
def load(part, monkeypatch, capfd) -> Callable[..., str]:
    """Run the load test; check its exit code and return its output."""

    def run(*arguments: str, code: int = 0, **environment: str) -> str:
        monkeypatch.setattr(sys, "argv", ["load.py", *arguments])
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            part("load").main()
        said = "".join(capfd.readouterr())
        assert ended.value.code == code, said
        return said

    return run


@pytest.mark.seconds(15)
@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    "times",
    [
        ("--seconds", "3", "--renewal-seconds", "0.5", *QUICK),
        # An operator's first command comes within 8 s of the sign-in, which is slow on a busy machine.
        pytest.param(("--seconds", "40", "--renewal-seconds", "3"), marks=pytest.mark.load),
    ],
    ids=["short", "long"],
)
def test_a_steady_load_is_run_and_judged(load, memory, tmp_path, times):
    """A steady load writes its rows, counts and server statistics to files, renews operators' tokens and loses
    nothing."""
    files = ("--json", str(tmp_path / "found.json"), "--html", str(tmp_path / "found.html"))
    said = load("steady", "--agents", "2", "--operators", "2", *times, *files, *PATIENT)
    assert "every threshold was kept" in said and "agent → viewer: p50" in said
    found = json.loads((tmp_path / "found.json").read_text())
    rows = {row["name"]: row for row in found["rows"]}
    assert found["missed"] == [] and rows["renew token"]["count"] > 4 and rows["POST → row"]["failures"] == 0
    assert found["counts"]["archived bytes compared"] > 2 * 2 * 1024 * 1024  # the history of each agent
    assert 0 < found["server"]["Postgres connections, at most"] < 40
    assert r"agent \u2192 viewer" in (tmp_path / "found.html").read_text()


@pytest.fixture
def running_center(memory, cluster) -> Iterator[tuple[str, ...]]:
    """A running control center, as options of the load test."""
    copy_folder(cluster, memory / "data")
    with ControlCenter(memory / "data") as center:
        found = re.search(r"Sign in with\s+(\S+).*and password\s+(\S+)", center.ready().output, re.DOTALL)
        assert found is not None, center.output
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("ONSEMBL_PASSWORD", found[2])
            yield "--url", center.address, "--email", found[1]


@pytest.mark.seconds(30)
@pytest.mark.timeout(300)
def test_loads_at_one_address(load, running_center):
    """A control center that runs already gets one load after the other; each is judged."""
    exceed_a_threshold(load, "1", *QUICK, *running_center)
    cut_everybody_off(load, "2", *QUICK, *running_center)
    ramp_up(load, 1, 3, *running_center)
    kill_a_load("steady", "locust", "the load did not come to its end", *running_center)
    for shape in ("steady", "limit"):
        kill_a_load(shape, str(FOLDER / "load_process.py"), "the load ended before it had seen", *running_center)


@pytest.mark.load
@pytest.mark.timeout(200)
def test_a_load_at_an_address_is_judged(load, running_center):
    """An exceeded threshold of a load at an address sets the exit code."""
    exceed_a_threshold(load, "10", *running_center)


@pytest.mark.load
@pytest.mark.timeout(200)
def test_a_storm_cuts_everybody_off_and_sees_them_back(load, memory):
    """A storm disconnects all agents, waits for their return and prints their number."""
    cut_everybody_off(load, "10")


@pytest.mark.load
@pytest.mark.timeout(200)
def test_a_ramp_says_how_many_it_held(load, memory):
    """A ramp rises to the largest requested number of agents and prints the number that it held."""
    ramp_up(load, 2, 6)


@pytest.mark.load
@pytest.mark.timeout(200)
def test_a_killed_load_fails(memory):
    """A load whose Locust process is killed fails."""
    kill_a_load("steady", "locust", "the load did not come to its end")


def exceed_a_threshold(load, seconds, *options):
    """A load that exceeds a threshold sets the exit code."""
    people = ("--agents", "1", "--operators", "1")
    said = load("steady", *people, "--seconds", seconds, *options, *PATIENT, "--terminal-p99=-1", code=1)
    assert "missed: agent → viewer: p99" in said


def cut_everybody_off(load, seconds, *options):
    """A storm disconnects all agents, waits for their return and prints their number."""
    said = load("storm", "--agents", "10", "--operators", "1", "--seconds", seconds, *options, *PATIENT)
    assert "agents cut off: 10" in said and "all are back: p50" in said


def ramp_up(load, step, seconds, *options):
    """A ramp rises to the largest requested number of agents and prints the number that it held."""
    agents = 2 * step
    steps = map(str, ("--agents", agents, "--step", step, "--step-seconds", seconds))
    said = load("limit", *steps, *options, *PATIENT)
    assert f"{agents} agents × 5 viewers" in said and f"the limit at any: {agents} agents × 5 viewers" in said


def kill_a_load(shape, program, why, *options):
    """A load fails, and does not wait, when Locust or the process with the agents and operators is killed."""
    people = ("--agents", "1", "--operators", "0", "--seconds", "600")  # longer than a test may wait
    command = [sys.executable, str(LOAD), shape, *people, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        assert run.stdout is not None
        next(line for line in run.stdout if "All users spawned" in line)
        processes = psutil.Process(run.pid).children(recursive=True)
        (killed,) = (process for process in processes if program in process.cmdline())
        killed.send_signal(signal.SIGKILL)
        said = run.stdout.read()
    assert run.returncode == 1 and f"missed: {why}" in said, said


@pytest.mark.parametrize("shape", ["steady", "limit"])
def test_a_load_at_an_address_without_a_control_center_fails_at_once(load, tmp_path, shape):
    """A load without a sign-in fails with the reason alone, before Locust starts."""
    where = ("--url", "http://127.0.0.1:9", "--email", "nobody@example.org", "--json", str(tmp_path / "found.json"))
    said = load(shape, *where, code=1, ONSEMBL_PASSWORD="none")
    (why,) = json.loads((tmp_path / "found.json").read_text())["missed"]
    assert why.startswith("nobody@example.org could not sign in at http://127.0.0.1:9: Cannot connect")
    assert said == f"missed: {why}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("steady", "--url", "http://127.0.0.1:9"),
        ("steady", "--url", "http://127.0.0.1:9", "--email", "a@example.org", "--memory-growth", "5"),
        ("steady", "--seconds", "60", "--memory-growth", "5"),
    ],
)
def test_what_cannot_be_judged_is_refused(load, arguments):
    """Arguments without a possible judgement are rejected with the usage message."""
    assert "usage:" in load(*arguments, code=2)


async def test_an_answer_that_fails_is_asked_for_again(part):
    """The end of a command is read again after an error of the server."""
    asked = []

    class Center:
        async def get(self, path):
            asked.append(path)
            if len(asked) == 1:
                raise aiohttp.ClientResponseError(None, (), status=503)
            return {"ended_at": "now", "state": "succeeded"}

    fleet = part("load_process").Fleet(Center(), [], history=False, archive=False, renewal=None)
    assert await fleet._ended("some", cancel=False) == "succeeded" and len(asked) == 2


async def test_a_refused_subscription_is_no_subscription(part):
    """A failed subscription at Realtime raises an error."""

    class Socket:
        async def receive_str(self):
            return json.dumps([None, None, "realtime:load", "system", {"status": "error", "message": "no"}])

    pages = part("pages")
    dashboard = pages.Dashboard(SimpleNamespace(), part("report").Report())
    dashboard._socket = Socket()
    with pytest.raises(aiohttp.ClientError, match="no"):
        await dashboard._subscribed()


async def test_what_a_viewer_does_not_see_is_a_failure(part):
    """A closed connection, missing bytes and a missing row are each a failure of the viewer."""
    report = part("report").Report()
    failures = []
    report.failed = lambda kind, name, why: failures.append(f"{name}: {why}")
    agent = SimpleNamespace(credentials=SimpleNamespace(agent_id="a"), end=10)
    pages = part("pages")
    viewer = pages.Viewer(SimpleNamespace(url="http://127.0.0.1:9", token=""), agent, report)
    viewer.hear({"type": "attached", "offset": 0})
    viewer.read(b"x" * 9)
    await viewer.see_all(time.monotonic())
    viewer.on_ws_disconnected(None)
    dashboard = pages.Dashboard(SimpleNamespace(), report)
    dashboard.asked("a command", time.monotonic())
    await dashboard.see_all(time.monotonic())
    assert failures == [
        "agent → viewer: it saw 9 bytes of 10",
        "agent → viewer: the server closed the connection",
        "POST → row: it never came",
    ]


def test_frames_with_a_hole_are_found(part):
    """A byte that is missing in the archive makes its frames invalid."""
    archived, agents = part("archived"), part("fleet_agents")
    chunk = agents.HEADER.pack(agents.MAGIC, 1, agents.HEADER.size + 5) + b"hello"
    frames = archived.Frames()
    assert frames.feed(chunk + chunk[:7]) and not frames.whole
    assert frames.feed(chunk[7:]) and frames.whole
    assert not frames.feed(chunk[:-1] + chunk)


def test_a_process_that_has_ended_is_no_connection(part):
    """A Postgres backend that ends after it was listed is not counted as a connection."""
    ended = subprocess.Popen(["true"])
    process = psutil.Process(ended.pid)
    ended.wait()
    assert not part("center")._is_connection(process)


def test_an_emergency_stop_that_takes_too_long_is_the_exit_code(part, monkeypatch, capsys):
    """An emergency stop that takes too long or leaves processes alive sets the exit code, shown with scripted
    measurements."""
    bench = part("halt_bench")
    monkeypatch.setattr(sys, "argv", ["halt_bench.py"])
    for gone, proven, after, says in (
        (2.9, 3.0, 0, None),
        (1.5, 3.1, 0, "It took 3.1 s; 3.0 s is the target."),
        (1.5, 2.0, 2, "2 processes are still alive."),
    ):
        result = {"gone_s": gone, "proven_s": proven, "processes_after": after}
        monkeypatch.setattr(bench, "measure", lambda _agents, result=result: result)
        if says is None:
            bench.main()
        else:
            with pytest.raises(SystemExit) as ended:
                bench.main()
            assert ended.value.code == says  # Python prints this text, and the exit code is 1.
    assert '"proven_s": 3.1' in capsys.readouterr().out


def test_the_relay_may_add_little_and_lose_nothing(part):
    """The benchmark of two instances names each target that was missed."""
    missed = part("instances_bench").missed
    direct = {"p50 ms": 0.2, "p99 ms": 1.0, "lost": 0.0}
    assert missed({"direct": direct, "relayed": {"p50 ms": 1.1, "p99 ms": 5.9, "lost": 0.0}}) == []
    wrong = missed({"direct": direct, "relayed": {"p50 ms": 1.3, "p99 ms": 6.1, "lost": 2.0}})
    assert [text.split()[-1] for text in wrong] == ["1", "5", "lost"]


@pytest.mark.timeout(200)
def test_the_cost_of_times_is_a_ratio_of_rounds(part):
    """Each round is compared with itself, so that noise of a round hits both."""
    found = part("times_bench").compared([2.0, 20.0, 3.0], [1.0, 10.0, 2.0])
    assert found == {"with": 3.0, "without": 2.0, "ratio": 2.0, "from": 1.5, "to": 2.0}


def test_a_row_of_the_benchmarks_is_measured_and_judged(memory, tmp_path):
    """A benchmark's files have the machine, the value, its target and whether it is met, which also sets the exit
    code."""
    files = ("--json", str(tmp_path / "found.json"), "--markdown", str(tmp_path / "found.md"))
    command = [sys.executable, str(FOLDER / "bench.py"), "--only", "start", "--rounds", "1", *files]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    found = json.loads((tmp_path / "found.json").read_text())
    (row,) = found["rows"]
    (target,) = row["targets"]
    assert row["failures"] == [] and target["met"] == (row["medians"]["ours"]["s"] <= 3)
    assert run.returncode == (0 if target["met"] else 1), run.stdout + run.stderr
    assert "processors" in found["machine"] and "processors: " in (tmp_path / "found.md").read_text()


async def test_a_round_that_fails_costs_no_other(part):
    """A failed round is reported and keeps the other rounds' values, and a target without a value is not met."""
    bench, targets = part("bench"), part("targets")
    rounds = iter([{"p99 ms": 3.0, "lost": 0.0}, None, {"p99 ms": 5.0, "lost": 0.0}])

    async def ours():
        if (figures := next(rounds)) is None:
            raise TimeoutError("nothing came")
        return figures

    async def peer():
        raise FileNotFoundError("node")

    wanted = [targets.at_most("p99 ms", 4), targets.at_most("lost", 0), targets.at_most("p50 ms", 1)]
    found = await bench.run(bench.Benchmark("some row", {"ours": ours, "peer": peer}, wanted), 3)
    assert found.median("ours") == {"p99 ms": 4.0, "lost": 0.0}
    assert [met for _, met in found.verdicts()] == [True, True, False]
    assert len(found.failures) == 4 and "ours, round 2: TimeoutError: nothing came" in found.failures
    table = bench.markdown({"processors": 2}, [found])
    assert (
        "| some row | p99 ms | 4 |  |  | ≤ 4 | yes |" in table and "| some row | p50 ms |  |  |  | ≤ 1 | no |" in table
    )


def test_a_target_beside_a_peer_is_open_without_it(part):
    """A target relative to a peer is undecided without the peer, and else is judged by the ratio."""
    targets = part("targets")
    rate, p99 = targets.at_least_the_peers("rate", 3), targets.at_most_the_peers("p99 ms")
    assert [rate.met({"rate": 6}, {}), rate.met({"rate": 6}, {"rate": 2}), rate.met({"rate": 5}, {"rate": 2})] == [
        None,
        True,
        False,
    ]
    assert [p99.met({"p99 ms": 2}, {"p99 ms": 2}), p99.met({"p99 ms": 3}, {"p99 ms": 2})] == [True, False]
    doubled = targets.at_most_times("p99 ms", "p99 ms before", 2)
    assert doubled.met({"p99 ms": 4, "p99 ms before": 2}, {}) and not doubled.met({"p99 ms": 5, "p99 ms before": 2}, {})
