"""A worker beside the API shows its own metrics."""

from __future__ import annotations

import asyncio
import sys

import httpx
from support.control_center import clean_environment
from support.ports import free_port


async def test_a_worker_serves_its_metrics(database_url):
    """On the port that was asked for, on this machine alone."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "onsembl.cli.main", "worker", "--metrics-port", str(port)),
        env=clean_environment(DATABASE_URL=database_url),
    )
    try:
        async with asyncio.timeout(60), httpx.AsyncClient() as http:
            text = ""
            while 'onsembl_pool_connections{pool="worker"}' not in text:
                try:
                    text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
                except httpx.ConnectError:
                    assert process.returncode is None, "the worker ended"
                    await asyncio.sleep(0.05)
        assert "onsembl_job_latency_seconds_count 0.0" in text
        assert "onsembl_event_loop_lag_seconds_count" in text
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
    assert process.returncode == 0
