"""Measure how soon subscribers receive a changed row, and how many changes a second are delivered.

    python loadtests/realtime_bench.py [--subscribers 1 50 500] [--changes 200] [--json FILE]

Starts a Postgres and the built-in Supabase Realtime of its own (`onsembl supabase serve`), subscribes so many sockets
to one table, as operators under row-level security, and changes a row every 20 ms: latency is from before the UPDATE to
the arrival of its frame at a subscriber, over all subscribers. Then it changes rows as fast as it can for the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
from websockets.asyncio.client import ClientConnection, connect

from onsembl.cli.server.embedded_postgres import EmbeddedPostgres
from onsembl.sql.migrate import migrate

PACE_SECONDS = 0.02
BURST = 1000


class Subscriber:
    """A socket that subscribes to `onsembl.agents` and records the time of each change."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.latencies: list[float] = []
        self.seen = 0

    async def join(self, token: str) -> None:
        binding = {"event": "*", "schema": "onsembl", "table": "agents"}
        payload = {"config": {"postgres_changes": [binding]}, "access_token": token}
        await self.socket.send(json.dumps(["1", "1", "realtime:bench", "phx_join", payload]))
        while True:
            frame = json.loads(await self.socket.recv())
            if frame[3] == "system":
                assert frame[4]["status"] == "ok", frame
                return

    async def read(self) -> None:
        while True:
            frame = await self.socket.recv()
            now = time.monotonic_ns()
            match = re.search(r'"host":\s*"(\d+)"', str(frame))
            if match:
                self.seen += 1
                self.latencies.append((now - int(match[1])) / 1e6)


async def sign_in(url: str, key: str, secret: str) -> str:
    async with httpx.AsyncClient(base_url=f"{url}/auth/v1") as http:
        account = {"email": "bench@example.org", "password": "bench-password"}
        admin = {"apikey": secret, "Authorization": f"Bearer {secret}"}
        made = {**account, "email_confirm": True, "app_metadata": {"role": "viewer"}}
        (await http.post("/admin/users", json=made, headers=admin)).raise_for_status()
        answer = await http.post("/token?grant_type=password", json=account, headers={"apikey": key})
        return answer.raise_for_status().json()["access_token"]


async def change(conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.execute("update onsembl.agents set host = %s where name = 'bench'", [str(time.monotonic_ns())])


async def all_seen(subscribers: list[Subscriber], count: int) -> None:
    async with asyncio.timeout(120):
        while any(subscriber.seen < count for subscriber in subscribers):  # noqa: ASYNC110 — an event each would cost
            await asyncio.sleep(0.005)


async def measure(url: str, key: str, token: str, database: str, count: int, changes: int) -> dict[str, float]:
    address = f"{url.replace('http', 'ws')}/realtime/v1/websocket?apikey={key}&vsn=2.0.0"
    sockets = [await connect(address, compression=None, max_size=None) for _ in range(count)]
    subscribers = [Subscriber(socket) for socket in sockets]
    await asyncio.gather(*(subscriber.join(token) for subscriber in subscribers))
    readers = [asyncio.create_task(subscriber.read()) for subscriber in subscribers]
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        for _ in range(changes):
            await change(conn)
            await asyncio.sleep(PACE_SECONDS)
        await all_seen(subscribers, changes)
        latencies = sorted(value for subscriber in subscribers for value in subscriber.latencies)
        began = time.monotonic()
        burst = max(50, BURST // max(1, count // 10))
        for _ in range(burst):
            await change(conn)
        await all_seen(subscribers, changes + burst)
        rate = burst / (time.monotonic() - began)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*(socket.close() for socket in sockets))
    return {
        "p50 ms": round(statistics.median(latencies), 2),
        "p99 ms": round(latencies[int(len(latencies) * 0.99)], 2),
        "max ms": round(latencies[-1], 2),
        "changes/s": round(rate),
        "deliveries/s": round(rate * count),
    }


@dataclass(frozen=True, slots=True)
class ServedProject:
    """A running built-in Supabase and its database."""

    database: str
    url: str
    key: str
    secret: str


@contextmanager
def served_project() -> Generator[ServedProject]:
    """Start a built-in Supabase on a Postgres of its own."""
    with tempfile.TemporaryDirectory(prefix="onsembl-bench-") as folder:
        Path(folder).chmod(0o755)
        postgres = EmbeddedPostgres(Path(folder))
        postgres.start()
        process = subprocess.Popen(
            [sys.executable, "-m", "onsembl.cli.main", "supabase", "serve", "--port", "0"],
            env={**os.environ, "DATABASE_URL": postgres.url()},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            said = "".join(process.stdout.readline() for _ in range(4))
            settings = dict(re.findall(r"export SUPABASE_(\w+)=(\S+)", said))
            yield ServedProject(postgres.url(), settings["URL"], settings["PUBLISHABLE_KEY"], settings["SECRET_KEY"])
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            postgres.stop()


async def changes_seen(counts: Sequence[int], changes: int = 200) -> list[dict[str, float]]:
    """By so many subscribers each, on a built-in Supabase of its own."""
    with served_project() as served:
        await migrate(served.database, builtin_supabase=True)
        async with await psycopg.AsyncConnection.connect(served.database, autocommit=True) as conn:
            await conn.execute("insert into onsembl.agents (name, kind) values ('bench', 'shell')")
        token = await sign_in(served.url, served.key, served.secret)
        return [await measure(served.url, served.key, token, served.database, count, changes) for count in counts]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--subscribers", type=int, nargs="+", default=[1, 50, 500])
    parser.add_argument("--changes", type=int, default=200, help="paced changes to measure the latency with")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    taken = asyncio.run(changes_seen(arguments.subscribers, arguments.changes))
    rows = [{"subscribers": count, **row} for count, row in zip(arguments.subscribers, taken, strict=True)]
    print(f"{'subscribers':>11} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} {'changes/s':>10} {'deliveries/s':>13}")
    for row in rows:
        print(
            f"{row['subscribers']:>11} {row['p50 ms']:>8} {row['p99 ms']:>8} {row['max ms']:>8}"
            f" {row['changes/s']:>10} {row['deliveries/s']:>13}"
        )
    if arguments.json:
        machine = {"processors": os.cpu_count(), "python": platform.python_version()}
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
