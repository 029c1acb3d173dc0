"""The retention of the archive, run by a worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg

from onsembl.fleet.listener import Listener
from onsembl.sql.database import create_pool
from onsembl.tasks.app import KEEP_ARCHIVE, new_app
from onsembl.tasks.metrics import Pools, WorkerMetrics, new_registry
from onsembl.tasks.worker import WorkerSettings, run_worker


def partitions(database_url: str) -> set[str]:
    with psycopg.connect(database_url) as conn:
        return {
            name
            for (name,) in conn.execute(
                "select relname from pg_class join pg_inherits on inhrelid = oid"
                " where inhparent = 'onsembl.archive'::regclass and relname <> 'archive_default'"
            )
        }


async def test_the_archive_has_days_ahead_and_loses_those_that_are_over(database_url):
    """A worker makes the archive's partitions for the next days, drops those past the retention, and audits each
    drop."""
    today = datetime.now(UTC)

    def name(days: int) -> str:
        return f"archive_{today + timedelta(days=days):%Y%m%d}"

    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f"drop table onsembl.{name(3)}")
        for days in (9, 3, 2):
            conn.execute(
                "insert into onsembl.archive select gen_random_uuid(), 0, 1, now() - make_interval(days => %s), '', ''",
                [days],
            )
    async with create_pool(database_url, role="onsembl_api") as pool:
        app = new_app(Listener(database_url))
        await app.open_async(pool)
        await app.configure_task(KEEP_ARCHIVE).defer_async(timestamp=0)
    registry = new_registry()
    metrics = WorkerMetrics(registry, Pools(registry))
    await run_worker(database_url, WorkerSettings(archive_days=2), metrics, until_idle=True)
    assert partitions(database_url) == {name(days) for days in (-2, 0, 1, 2, 3)}
    with psycopg.connect(database_url) as conn:
        dropped = conn.execute("select target_id from onsembl.audit where action = 'archive.dropped' order by 1")
        assert [row[0] for row in dropped] == sorted([name(-9), name(-3)])
