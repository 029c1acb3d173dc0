"""`onsembl worker`: run jobs until a signal, or until the queue is empty."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import click
import uvloop
from prometheus_client import CollectorRegistry

from onsembl.cli import logs
from onsembl.cli.errors import CliError
from onsembl.cli.server.database_url import running_database
from onsembl.cli.server.metrics_server import serve_metrics
from onsembl.cli.server.options import (
    archive_days_option,
    data_dir_option,
    database_connections_option,
    database_url_option,
    database_wait_option,
    dead_after_option,
    instance_dead_after_option,
    pooler_url_option,
)
from onsembl.cli.server.wake_server import serve_wake
from onsembl.sql.cancellation import cancel_until_done
from onsembl.sql.supervision import GaveUp, supervise
from onsembl.tasks.metrics import LoopLag, Pools, WorkerMetrics, new_registry
from onsembl.tasks.worker import WORKER_END_SECONDS, WorkerSettings, run_worker


@click.command()
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    default=1000,
    show_default=True,
    help="Jobs to run at the same time.",
)
@dead_after_option
@instance_dead_after_option
@click.option("--until-idle", is_flag=True, help="Exit when the queue is empty; do not wait for offline agents.")
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="Serve this worker's Prometheus metrics on this port, at /metrics.",
)
@click.option(
    "--metrics-host",
    default="127.0.0.1",
    show_default=True,
    help="The address to serve metrics on. Other machines need the token in ONSEMBL_METRICS_TOKEN.",
)
@click.option(
    "--wake-port",
    type=click.IntRange(1, 65535),
    help="Answer a POST on this port while the worker runs, for a proxy that starts its machine on a request.",
)
@click.option(
    "--wake-host",
    default="127.0.0.1",
    show_default=True,
    help="The address of --wake-port. With ONSEMBL_WORKER_WAKE_SECRET set, requests must send that token.",
)
@archive_days_option
@database_url_option
@pooler_url_option
@database_connections_option(3, hosted=5, default=12)
@database_wait_option
@data_dir_option
def worker(
    concurrency: int,
    dead_after: float,
    instance_dead_after: float,
    until_idle: bool,
    metrics_port: int | None,
    metrics_host: str,
    wake_port: int | None,
    wake_host: str,
    archive_days: int,
    database_url: str | None,
    pooler_url: str | None,
    database_connections: int,
    database_wait: float,
    data_dir: Path,
) -> None:
    """Run jobs: deliver commands to agents and do periodic work.

    Any number of workers may run. A worker keeps no state: when it stops or dies, another one takes over its jobs.
    """
    logs.configure(logging.INFO)
    url = running_database(database_url, data_dir, database_wait)
    registry = new_registry()
    metrics = serve_metrics(registry, metrics_host, metrics_port) if metrics_port is not None else nullcontext()
    wake = serve_wake(wake_host, wake_port) if wake_port is not None else nullcontext()
    with metrics, wake:
        settings = WorkerSettings(
            concurrency=concurrency,
            dead_after=dead_after,
            instance_dead_after=instance_dead_after,
            archive_days=archive_days,
        )
        run = partial(
            run_worker, url, settings, connections=database_connections, pooler_url=pooler_url, until_idle=until_idle
        )
        uvloop.run(_run(run, registry))


async def _run(run: Callable[..., Awaitable[None]], registry: CollectorRegistry) -> None:
    lag = asyncio.create_task(LoopLag(registry).watch())
    metrics = WorkerMetrics(registry, Pools(registry))
    work = supervise("The worker", lambda: run(metrics=metrics))
    task = asyncio.create_task(work, name="worker")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    await cancel_until_done([task, waiting, lag], again=WORKER_END_SECONDS)
    if not task.cancelled():
        try:
            task.result()
        except GaveUp as error:
            raise CliError(str(error)) from error
