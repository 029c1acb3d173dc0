"""`onsembl worker`: takes jobs until it is stopped, or until there are none."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

import click

from onsembl.cli.data_folder import data_dir_option
from onsembl.cli.database_url import database_url_option, running_database
from onsembl.tasks.worker import WorkerSettings, run_worker


@click.command()
@click.option("--concurrency", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="Jobs at once.")
@click.option("--until-idle", is_flag=True, help="End when no job is waiting.")
@database_url_option
@data_dir_option
def worker(concurrency: int, until_idle: bool, database_url: str | None, data_dir: Path) -> None:
    """Run jobs. Any number of workers may run; each keeps nothing, and what one leaves another takes up."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    url = running_database(database_url, data_dir)
    asyncio.run(_run(url, WorkerSettings(concurrency=concurrency), until_idle))


async def _run(url: str, settings: WorkerSettings, until_idle: bool) -> None:
    task = asyncio.create_task(run_worker(url, settings, until_idle=until_idle))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return
