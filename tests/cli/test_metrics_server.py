"""A worker's metrics over HTTP."""

from __future__ import annotations

import asyncio

import httpx
from support.control_center import clean_environment
from support.forked import PIPE, STDOUT, fork_onsembl
from support.ports import free_port


async def test_other_machines_read_metrics_with_the_token(database_url):
    """A request without the token is rejected."""
    port = free_port()
    process = await fork_onsembl(
        *("worker", "--metrics-host", "0.0.0.0", "--metrics-port", str(port)),
        env=clean_environment(DATABASE_URL=database_url, ONSEMBL_METRICS_TOKEN="figures-please"),
    )
    try:
        async with asyncio.timeout(60), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            status = 0
            while status == 0:
                try:
                    status = (await http.get("/metrics")).status_code
                except httpx.ConnectError:
                    assert process.returncode is None, "the worker ended"
                    await asyncio.sleep(0.05)
            wrong, right = ({"Authorization": f"Bearer {token}"} for token in ("else", "figures-please"))
            assert status == (await http.get("/metrics", headers=wrong)).status_code == 401
            assert "onsembl_jobs_running" in (await http.get("/metrics", headers=right)).text
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_metrics_for_other_machines_need_a_token(database_url):
    """Without a token, an address that other machines reach is rejected."""
    process = await fork_onsembl(
        *("worker", "--metrics-host", "0.0.0.0", "--metrics-port", "9400"),
        env=clean_environment(DATABASE_URL=database_url),
        stdout=PIPE,
        stderr=STDOUT,
    )
    said = await process.communicate()
    assert process.returncode != 0 and b"ONSEMBL_METRICS_TOKEN" in said


async def test_a_worker_serves_its_metrics(database_url):
    """The metrics are served on the given port of the loopback address."""
    port = free_port()
    process = await fork_onsembl(
        *("worker", "--metrics-port", str(port)),
        env=clean_environment(DATABASE_URL=database_url),
    )
    try:
        async with asyncio.timeout(60), httpx.AsyncClient() as http:
            text = ""
            while 'onsembl_pool_connections{pool="database"}' not in text:
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
