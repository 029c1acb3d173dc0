"""Rotate an agent's short-lived tokens while it streams: no byte may be lost, and no reconnect may happen.

    python loadtests/rotation_soak.py [--rotations 300] [--access-seconds 2] [--json FILE]

Starts a Postgres, `onsembl up` and `onsembl agent run` of its own. The agent runs one command, which prints numbered
lines all the time; a viewer compares every byte. It ends when the agent has asked for new tokens so often.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import connect as connect_socket

from onsembl.agent.enrolment import credentials as store
from onsembl.agent.enrolment.enrol import enrol
from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.cli.server.first_operator import create_first_operator
from onsembl.protocol.messages import TERMINAL_SUBPROTOCOL
from onsembl.protocol.states import AgentKind
from onsembl.sql.database import connect
from onsembl.sql.enrolment import add_token
from onsembl.sql.migrate import migrate

COMMAND = "n=0; until test -e stop; do n=$((n+1)); printf 'line-%09d\\n' $n; sleep 0.02; done"
ONSEMBL = (sys.executable, "-m", "onsembl.cli.main")


class Lines:
    """Checks that numbered lines arrive in order, each once and complete."""

    def __init__(self) -> None:
        self.bytes = 0
        self.lines = 0
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Read more bytes. Raises AssertionError when a line is missing or repeated."""
        self.bytes += len(data)
        *whole, self._rest = (self._rest + data).split(b"\r\n")
        for line in whole:
            match = re.search(rb"line-(\d{9})$", line)
            if match is not None and int(match[1]) != self.lines + 1:
                raise AssertionError(f"after line {self.lines} came {line!r}")
            self.lines += match is not None


async def watch(url: str, agent_id: str, token: str, lines: Lines) -> None:
    address = f"{url.replace('http', 'ws')}/v1/agents/{agent_id}/terminal"
    async with connect_socket(address, subprotocols=[TERMINAL_SUBPROTOCOL]) as socket:  # type: ignore[list-item]
        await socket.send(json.dumps({"type": "attach", "access_token": token}))
        async for frame in socket:
            if isinstance(frame, bytes):
                lines.feed(frame)
            elif (kind := json.loads(frame)["type"]) == "gap":
                raise AssertionError("the viewer was told of a gap")
            elif kind == "ping":
                await socket.send('{"type":"pong"}')


async def rotations(database: str) -> tuple[int, int]:
    """The numbers of successful refreshes and of connections."""
    async with await connect(database) as conn:
        cursor = await conn.execute(
            """select count(*) filter (where action = 'agent.refresh' and outcome = 'ok') as refreshes,
                      count(*) filter (where action = 'agent.connected') as connections from onsembl.audit"""
        )
        row = await cursor.fetchone()
    assert row is not None
    return row["refreshes"], row["connections"]


async def run(folder: Path, postgres: EmbeddedPostgres, wanted: int, seconds: int) -> dict[str, Any]:
    database = postgres.url()
    await migrate(database, builtin_supabase=True)
    made = await create_first_operator(database)
    assert made is not None
    server = await asyncio.create_subprocess_exec(
        *(*ONSEMBL, "up", "--port", "0", "--data-dir", str(folder / "data"), "--agent-access-token", str(seconds)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "DATABASE_URL": database, "PYTHONUNBUFFERED": "1"},
    )
    assert server.stdout is not None
    while (ready := re.search(rb"ready at (\S+)", await server.stdout.readline())) is None:
        assert server.returncode is None, "it did not start"
    url = ready[1].decode()
    token = "one_" + os.urandom(24).hex()
    async with await connect(database, role="onsembl_api") as conn:
        await add_token(conn, token, "*", 600, None)
    credentials = await enrol(url, token, "soak", AgentKind.SHELL)
    store.save(folder / "agents" / "soak", credentials)
    agent = await asyncio.create_subprocess_exec(
        *(*ONSEMBL, "agent", "run", "--name", "soak", "--state-dir", str(folder / "agents"), "--cwd", str(folder))
    )
    lines = Lines()
    try:
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            key = (await http.get("/config.json")).json()["supabase_key"]
            account = {"email": made[0], "password": made[1]}
            answer = await http.post("/auth/v1/token?grant_type=password", json=account, headers={"apikey": key})
            access = answer.json()["access_token"]
            headers = {"Authorization": f"Bearer {access}"}
            watching = asyncio.create_task(watch(url, credentials.agent_id, access, lines))
            path = f"/v1/agents/{credentials.agent_id}/commands"
            command = (await http.post(path, json={"text": COMMAND}, headers=headers)).json()
            began = time.monotonic()
            while (await rotations(database))[0] < wanted:
                if watching.done():
                    watching.result()
                await asyncio.sleep(1)
            took = time.monotonic() - began
            (folder / "stop").touch()
            async with asyncio.timeout(30):
                while True:
                    row = (await http.get(f"/v1/commands/{command['id']}", headers=headers)).json()
                    if row["ended_at"] is not None:
                        break
                    await asyncio.sleep(0.1)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        refreshes, connections = await rotations(database)
        return {
            "access_token_seconds": seconds,
            "rotations": refreshes,
            "connections": connections,
            "seconds": round(took, 1),
            "lines_in_order": lines.lines,
            "bytes": lines.bytes,
            "command": row["state"],
        }
    finally:
        for process in (agent, server):
            process.send_signal(signal.SIGTERM)
            await process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rotations", type=int, default=300)
    parser.add_argument("--access-seconds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="onsembl-soak-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "postgres").mkdir(mode=0o755)
        postgres = EmbeddedPostgres(folder / "postgres")
        postgres.start()
        try:
            result = asyncio.run(run(folder, postgres, options.rotations, options.access_seconds))
        finally:
            postgres.stop(signal.SIGQUIT)
    for name, value in result.items():
        print(f"{name:>22}  {value}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))
    if result["connections"] != 1 or result["command"] != "succeeded":
        sys.exit("the agent had to come back, or its command did not end well")


if __name__ == "__main__":
    main()
