"""Measure a cancel: from the request until no process of the command is alive.

    python loadtests/cancel_bench.py [--count 100] [--json FILE]

Starts a control center and an `onsembl agent`, which repeatedly runs a program that ends at the first signal. Living
processes are read from /proc. The target is 150 ms at p99.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import tempfile
import time
from pathlib import Path

import uvloop
from center import Center, center
from halt_bench import alive
from real_agent import real_agent

POLL_SECONDS = 0.001
PATIENCE_SECONDS = 60.0


async def cancels(count: int = 100) -> dict[str, float]:
    """Milliseconds."""
    with tempfile.TemporaryDirectory(prefix="onsembl-cancel-") as folder:
        async with center() as server, real_agent(server, Path(folder)) as agent_id:
            taken = sorted([await _cancel(server, agent_id) for _ in range(count)])
    return {"p50 ms": taken[count // 2] * 1e3, "p99 ms": taken[int(count * 0.99)] * 1e3}


async def _cancel(server: Center, agent_id: str) -> float:
    """Seconds until no process is left. Raises TimeoutError when a process stays."""
    nap = f"1000.{secrets.randbelow(10**12)}"
    command = await server.post(f"/v1/agents/{agent_id}/commands", {"text": f"sleep {nap}"})
    async with asyncio.timeout(PATIENCE_SECONDS):
        pids: list[int] = []
        while not any(_name(pid) == "sleep" for pid in pids):
            pids = alive(nap)
            await asyncio.sleep(0.02)
        began = time.perf_counter()
        asking = asyncio.create_task(server.post(f"/v1/commands/{command['id']}/cancel", {}))
        while any(_lives(pid, nap) for pid in pids):  # noqa: ASYNC110 — /proc can only be asked
            await asyncio.sleep(POLL_SECONDS)
        took = time.perf_counter() - began
        await asking
        while alive(nap):
            await asyncio.sleep(POLL_SECONDS)
            took = time.perf_counter() - began
        state = ""
        while state != "cancelled":
            state = (await server.get(f"/v1/commands/{command['id']}"))["state"]
    return took


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _lives(pid: int, mark: str) -> bool:
    try:
        return mark.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()  # a zombie's is empty
    except OSError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    result = uvloop.run(cancels(options.count))
    print("cancel → processes gone: " + ", ".join(f"{name} {value:.1f}" for name, value in result.items()))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
