"""Measure an emergency stop: from the request until no process of any agent's command is alive.

    python loadtests/halt_bench.py [--agents 100] [--within 3] [--json FILE]

Starts a control center and this many agents, each in a process of its own. Each agent runs a process tree that ignores
SIGINT, SIGTERM and SIGHUP; a part of it left its parents, its group and its session by a double fork. Living processes
are counted in /proc. The target is 3 s for 100 agents, including their proof; the exit code is 1 when it is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.enrol import enrol
from onsembl.agent.program import AgentConfig, run_agent
from onsembl.protocol.states import AgentKind

TREE = """
trap '' INT TERM HUP
( setsid bash -c "trap '' INT TERM HUP; while :; do sleep {nap}; done" & ) </dev/null >/dev/null 2>&1
while :; do sleep {nap}; done
"""
PROCESSES_EACH = 4
"""The processes of one tree: two shells, and a sleep of each."""
PATIENCE_SECONDS = 120.0
WITHIN_SECONDS = 3.0


def alive(mark: str) -> list[int]:
    """The living processes with `mark` in their command line."""
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if mark.encode() in (folder / "cmdline").read_bytes():  # a zombie's is empty
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def run_agents(folder: Path) -> None:
    """Run every agent enrolled in `folder`, each in a forked process, until standard input ends."""
    children: list[int] = []
    for state in sorted(folder.iterdir()):
        child = os.fork()
        if child == 0:
            config = AgentConfig(folder=state, kind=AgentKind.SHELL, cwd=folder, version=version("onsembl"))
            asyncio.run(run_agent(config))
            os._exit(0)
        children.append(child)
    sys.stdin.read()
    for child in children:
        os.kill(child, signal.SIGTERM)
    for child in children:
        os.waitpid(child, 0)


async def stop_a_fleet(
    http: httpx.AsyncClient, headers: dict[str, str], enrolment_token: Callable[[], Awaitable[str]], count: int
) -> dict[str, Any]:
    """Enrol agents, let each run its tree, and stop everything. Return seconds and the numbers of processes."""
    nap = f"1000.{secrets.randbelow(10**12)}"
    with tempfile.TemporaryDirectory() as folder:
        agents: list[str] = []
        for number in range(count):
            name = f"halted-{number}"
            credentials = await enrol(str(http.base_url).rstrip("/"), await enrolment_token(), name, AgentKind.SHELL)
            store.save(Path(folder) / name, credentials)
            agents.append(credentials.agent_id)
        pack = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__, "--pack", folder), stdin=asyncio.subprocess.PIPE
        )
        assert pack.stdin is not None
        try:
            for agent in agents:
                body = {"text": TREE.format(nap=nap)}
                (await http.post(f"/v1/agents/{agent}/commands", json=body, headers=headers)).raise_for_status()
            await _until(lambda: len(alive(nap)) >= PROCESSES_EACH * count)
            before = len(alive(nap))
            began = time.monotonic()
            answer = await http.post("/v1/halt", json={"reason": "a drill"}, headers=headers)
            answer.raise_for_status()
            answered = time.monotonic() - began
            await _until(lambda: not alive(nap))
            gone = time.monotonic() - began
            status: dict[str, Any] = {"agents": []}
            async with asyncio.timeout(PATIENCE_SECONDS):
                while [agent["state"] for agent in status["agents"]] != ["stopped"] * count:
                    status = (await http.get("/v1/halt", headers=headers)).json()
            proven = time.monotonic() - began
        finally:
            pack.stdin.close()
            await pack.wait()
        return {
            "agents": count,
            "processes_before": before,
            "processes_after": len(alive(nap)),
            "answered_s": round(answered, 3),
            "gone_s": round(gone, 3),
            "proven_s": round(proven, 3),
        }


async def _until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not reached():  # noqa: ASYNC110 — /proc can only be asked
            await asyncio.sleep(0.02)


def measure(agents: int = 100) -> dict[str, Any]:
    """Run the benchmark on a new control center."""
    with tempfile.TemporaryDirectory(prefix="onsembl-halt-") as folder:
        Path(folder).chmod(0o755)
        center = subprocess.Popen(
            [sys.executable, "-m", "onsembl.cli.main", "up", "--port", "0", "--data-dir", folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert center.stdout is not None
        said = ""
        try:
            while (ready := re.search(r"ready at (\S+)", said)) is None:
                line = center.stdout.readline()
                assert line, said
                said += line
            while (password := re.search(r"password\s+(\S+)", said)) is None:
                said += center.stdout.readline()
            email = re.search(r"Sign in with\s+(\S+)", said)
            assert email is not None
            return asyncio.run(_measure(ready[1], email[1], password[1], agents))
        finally:
            center.send_signal(signal.SIGINT)
            center.communicate(timeout=30)


async def _measure(url: str, email: str, password: str, agents: int) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        key = (await http.get("/config.json")).json()["supabase_key"]
        session = await http.post(
            "/auth/v1/token?grant_type=password",
            json={"email": email, "password": password},
            headers={"apikey": key},
        )
        headers = {"Authorization": f"Bearer {session.json()['access_token']}"}

        async def token() -> str:
            return (await http.post("/v1/enrolment-tokens", json={}, headers=headers)).json()["token"]

        return await stop_a_fleet(http, headers, token, agents)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--within", type=float, default=WITHIN_SECONDS, help="seconds; 3")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pack", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pack is not None:
        run_agents(arguments.pack)
        return
    result = measure(arguments.agents)
    print(json.dumps(result, indent=2))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2))
    if missed := judge(result, arguments.within):
        sys.exit(missed)


def judge(result: dict[str, Any], within: float) -> str | None:
    """The missed target as a sentence; None when every process was gone, and this proven, in time."""
    if result["processes_after"]:
        return f"{result['processes_after']} processes are still alive."
    slowest = max(result["gone_s"], result["proven_s"])
    return f"It took {slowest} s; {within} s is the target." if slowest > within else None


if __name__ == "__main__":
    main()
