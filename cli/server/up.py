"""`onsembl up`: the whole control center from one command."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
import psycopg

from onsembl.cli import logs
from onsembl.cli.errors import CliError
from onsembl.cli.output import print_line
from onsembl.cli.server.data_folder import DataFolder
from onsembl.cli.server.database_url import not_responding, require_database
from onsembl.cli.server.hosted_project import hosted_project, require_session_database
from onsembl.cli.server.listener import address_of, listen
from onsembl.cli.server.options import (
    archive_days_option,
    cancel_times_option,
    data_dir_option,
    database_connections_option,
    database_url_option,
    database_wait_option,
    dead_after_option,
    halt_seconds_option,
    instance_dead_after_option,
    pooler_url_option,
)
from onsembl.protocol.affinity import fly_address
from onsembl.protocol.states import AgentKind
from onsembl.protocol.stop_timeouts import StopTimeouts
from onsembl.protocol.waking import JOBS_PER_WORKER, WakeTarget
from onsembl.realtime.auth.mail_server import BadMailServer, MailServer
from onsembl.realtime.hosted import HostedProject

if TYPE_CHECKING:
    from onsembl.cli.server.embedded_postgres import EmbeddedPostgres

LOOPBACK = "127.0.0.1"
BUILTIN_CONNECTIONS = 10
"""The connections to the database of the built-in Supabase in one process, at most."""
SPARE_CONNECTIONS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """The settings of one start. `began` is its time by the monotonic clock."""

    listener: socket.socket
    address: str
    hosted: HostedProject | None
    data_dir: Path
    allowed_hosts: tuple[str, ...]
    client_address_header: str | None
    anonymous_broadcast: bool
    agent_access_token: float
    agent_refresh_token: float
    halt_seconds: float
    cancel_times: dict[AgentKind, StopTimeouts]
    demo: bool
    no_worker: bool
    jobs_per_worker: int
    wake: WakeTarget | None
    archive_days: int
    dead_after: float
    instance_dead_after: float
    drain_seconds: float
    pooler_url: str | None
    database_connections: int
    instances: int
    instance_address: str | None
    realtime_url: str | None
    database_limit: int | None
    mail_server: MailServer | None
    began: float


def _instance_address_option(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Check the address HOST:PORT. Raises click.BadParameter."""
    if not value:
        return None
    try:
        parts = urlsplit(f"//{value}")
        complete = parts.hostname is not None and parts.port is not None and parts.netloc == value
    except ValueError:
        complete = False
    if not complete or "@" in value:
        raise click.BadParameter("it must be HOST:PORT, as 10.0.0.5:8400 or [fdaa::5]:8400.")
    return value


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8400,
    show_default=True,
    help="The port to listen on; 0 takes a free one.",
)
@click.option(
    "--public-url",
    envvar="ONSEMBL_PUBLIC_URL",
    show_envvar=True,
    help="The URL at which browsers and agents reach the server, if it differs from host and port.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    envvar="ONSEMBL_ALLOWED_HOSTS",
    show_envvar=True,
    help=(
        "A further name under which browsers may load the page (repeat for several), beside the public URL's name, "
        "localhost and IP addresses."
    ),
)
@click.option(
    "--client-address-header",
    envvar="ONSEMBL_CLIENT_ADDRESS_HEADER",
    show_envvar=True,
    help=(
        "The header in which your reverse proxy passes the client's IP address, such as Fly-Client-IP. "
        "The proxy must overwrite a value that a client sends."
    ),
)
@click.option(
    "--anonymous-broadcast",
    is_flag=True,
    envvar="ONSEMBL_ANONYMOUS_BROADCAST",
    show_envvar=True,
    help="Let clients of the built-in Realtime use public channels without signing in, as a Supabase project does.",
)
@click.option(
    "--agent-access-token",
    type=click.IntRange(2, 86_400),
    envvar="ONSEMBL_AGENT_ACCESS_TOKEN",
    show_envvar=True,
    default=900,
    show_default=True,
    help="Access token lifetime of agents, in seconds.",
)
@click.option(
    "--agent-refresh-token",
    type=click.IntRange(60, 366 * 86_400),
    envvar="ONSEMBL_AGENT_REFRESH_TOKEN",
    show_envvar=True,
    default=7 * 86_400,
    show_default=True,
    help="Refresh token lifetime of agents, in seconds. An agent that is offline longer must enrol again.",
)
@halt_seconds_option
@cancel_times_option
@click.option("--demo", is_flag=True, help="Run a demo, too: three agents with something to watch, approve and cancel.")
@click.option("--no-worker", is_flag=True, help="Run no worker; start `onsembl worker` yourself.")
@click.option(
    "--worker-wake-url",
    envvar="ONSEMBL_WORKER_WAKE_URL",
    show_envvar=True,
    help=(
        "With --no-worker: the URL that is sent a POST when jobs wait and too few workers are alive, with the bearer "
        "token in ONSEMBL_WORKER_WAKE_SECRET."
    ),
)
@click.option(
    "--jobs-per-worker",
    type=click.IntRange(1, 10_000),
    envvar="ONSEMBL_JOBS_PER_WORKER",
    show_envvar=True,
    default=JOBS_PER_WORKER,
    show_default=True,
    help="For how many jobs one worker is wanted.",
)
@click.option(
    "--instances",
    type=click.IntRange(1, 64),
    envvar="ONSEMBL_INSTANCES",
    show_envvar=True,
    default=1,
    show_default=True,
    help="API processes that share the port, to use more cores.",
)
@click.option(
    "--instance-address",
    envvar="ONSEMBL_INSTANCE_ADDRESS",
    show_envvar=True,
    metavar="HOST:PORT",
    callback=_instance_address_option,
    help=(
        "The address at which other instances reach this one by a private network. By default the name of this machine "
        "(on Fly, that in its private network) and the port; with --instances, this machine only."
    ),
)
@click.option(
    "--realtime-url",
    envvar="ONSEMBL_REALTIME_URL",
    show_envvar=True,
    help=(
        "Pass the clients of the built-in Realtime on to the control center at this URL, which has the same database. "
        "Name the same one on every other machine, so that their clients meet in channels."
    ),
)
@dead_after_option
@instance_dead_after_option
@click.option(
    "--drain-seconds",
    type=click.FloatRange(0, 300),
    envvar="ONSEMBL_DRAIN_SECONDS",
    show_envvar=True,
    default=10.0,
    show_default=True,
    help="Seconds over which a process that stops moves its agents to other instances.",
)
@archive_days_option
@database_url_option
@pooler_url_option
@click.option(
    "--database-limit-mb",
    type=click.IntRange(1, 100_000_000),
    envvar="ONSEMBL_DATABASE_LIMIT_MB",
    show_envvar=True,
    default=lambda: 500 if os.environ.get("SUPABASE_URL", "").strip() else None,
    show_default="500 with a hosted Supabase project, which is read-only beyond that on the free plan",
    help="The size at which the database is full, in MB: there is an alert from 80% on.",
)
@database_connections_option(5, hosted=8, default=24)
@database_wait_option
@data_dir_option
def up(
    host: str,
    port: int,
    public_url: str | None,
    allowed_hosts: tuple[str, ...],
    client_address_header: str | None,
    anonymous_broadcast: bool,
    agent_access_token: int,
    agent_refresh_token: int,
    halt_seconds: float,
    cancel_times: tuple[tuple[AgentKind, StopTimeouts], ...],
    demo: bool,
    no_worker: bool,
    worker_wake_url: str | None,
    jobs_per_worker: int,
    instances: int,
    instance_address: str | None,
    realtime_url: str | None,
    dead_after: float,
    instance_dead_after: float,
    drain_seconds: float,
    archive_days: int,
    database_url: str | None,
    pooler_url: str | None,
    database_limit_mb: int | None,
    database_connections: int,
    database_wait: float,
    data_dir: Path,
) -> None:
    """Start the control center: database, API, worker and dashboard."""
    began = time.monotonic()
    logs.configure(logging.WARNING)
    listener = listen(host, port)
    click.get_current_context().call_on_close(listener.close)
    address = (public_url or address_of(listener)).rstrip("/")
    data_dir = data_dir.expanduser().absolute()
    hosted = _hosted(database_url)
    mail_server = _mail_server(hosted)
    if pooler_url is not None and database_url is None:
        raise CliError("DATABASE_POOLER_URL is set, so DATABASE_URL is required: one connection must be a session.")
    for url in (database_url, pooler_url):
        if url is not None:
            require_database(url, database_wait)
    DataFolder(data_dir).lock(address)
    signal.signal(signal.SIGTERM, _terminate)
    from onsembl.cli.server.dashboard import dashboard_files

    dashboard = dashboard_files(print_line)
    start = _Start(
        listener=listener,
        address=address,
        hosted=hosted,
        data_dir=data_dir,
        allowed_hosts=allowed_hosts,
        client_address_header=client_address_header,
        anonymous_broadcast=anonymous_broadcast,
        agent_access_token=agent_access_token,
        agent_refresh_token=agent_refresh_token,
        halt_seconds=halt_seconds,
        cancel_times=dict(cancel_times),
        demo=demo,
        no_worker=no_worker,
        jobs_per_worker=jobs_per_worker,
        wake=_wake_target(worker_wake_url) if no_worker else None,
        archive_days=archive_days,
        dead_after=dead_after,
        instance_dead_after=instance_dead_after,
        drain_seconds=drain_seconds,
        pooler_url=pooler_url,
        database_connections=database_connections,
        instances=instances,
        instance_address=instance_address,
        realtime_url=_realtime_url(realtime_url, hosted),
        database_limit=database_limit_mb * 1_000_000 if database_limit_mb is not None else None,
        mail_server=mail_server,
        began=began,
    )
    if database_url is not None:
        _serve(start, database_url, dashboard)
        return
    from onsembl.cli.server.embedded_postgres import EmbeddedPostgres

    postgres = EmbeddedPostgres(data_dir, {"max_connections": str(_most_connections(start))})
    if not (data_dir / "postgres").exists():
        print_line(f"Creating a database in {data_dir}")
    try:
        postgres.start()
        _serve(start, postgres.url(), dashboard, postgres)
    finally:
        postgres.stop()


def _instance_address(listener: socket.socket) -> str:
    """The address that tells this instance from others, also after a restart: that of the machine on Fly."""
    machine, app = os.environ.get("FLY_MACHINE_ID"), os.environ.get("FLY_APP_NAME")
    host = fly_address(machine, app) if machine and app else socket.gethostname()
    return f"{host}:{listener.getsockname()[1]}"


def _private_listener(listener: socket.socket) -> list[socket.socket]:
    """On Fly, whose private network has IPv6 alone, a socket that is reached by it, for a `listener` with IPv4."""
    if not (os.environ.get("FLY_MACHINE_ID") and listener.family is socket.AF_INET):
        return []
    return [listen("::", listener.getsockname()[1])]


def _private_listeners(count: int) -> tuple[list[socket.socket], str]:
    """A listening socket on a free port for each process, and the host at which other processes reach them.

    On Fly, other machines reach them, too, by its private network.
    """
    machine, app = os.environ.get("FLY_MACHINE_ID"), os.environ.get("FLY_APP_NAME")
    if machine and app:
        return [listen("::", 0) for _ in range(count)], fly_address(machine, app)
    return [listen(LOOPBACK, 0) for _ in range(count)], LOOPBACK


def _most_connections(start: _Start) -> int:
    """How many connections the embedded Postgres allows: those of each instance, and some for workers and tools."""
    return max(200, start.instances * (start.database_connections + BUILTIN_CONNECTIONS) + SPARE_CONNECTIONS)


def _realtime_url(url: str | None, hosted: HostedProject | None) -> str | None:
    if not url:
        return None
    if hosted is not None:
        raise CliError("--realtime-url is for the built-in Realtime; the Supabase project serves its own.")
    return _http_url(url, "--realtime-url").rstrip("/")


def _http_url(url: str, option: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CliError(f"{option} must begin with http:// or https://, and name a host.")
    return parts.geturl()  # its scheme in small letters, which is how others look at it


def _wake_target(url: str | None) -> WakeTarget | None:
    if not url:
        return None
    return WakeTarget(
        url=_http_url(url, "--worker-wake-url"), secret=os.environ.get("ONSEMBL_WORKER_WAKE_SECRET") or None
    )


def _hosted(database_url: str | None) -> HostedProject | None:
    hosted = hosted_project()
    if hosted is None:
        return None
    if database_url is None:
        raise CliError("SUPABASE_URL is set, so DATABASE_URL is required: set it to the project's own database.")
    require_session_database(database_url)
    return hosted


def _mail_server(hosted: HostedProject | None) -> MailServer | None:
    """The server that sends links by e-mail, by the environment, since its URL holds a password."""
    url, sender = (os.environ.get(name, "").strip() for name in ("ONSEMBL_SMTP_URL", "ONSEMBL_SMTP_SENDER"))
    if not url and not sender:
        return None
    if not url or not sender:
        raise CliError("Set both ONSEMBL_SMTP_URL and ONSEMBL_SMTP_SENDER, or neither.")
    if hosted is not None:
        raise CliError(
            "ONSEMBL_SMTP_URL is for the built-in sign-in. The Supabase project sends its e-mail itself: set its SMTP "
            "server there."
        )
    try:
        return MailServer.from_url(url, sender)
    except BadMailServer as error:
        raise CliError(f"ONSEMBL_SMTP_URL or ONSEMBL_SMTP_SENDER is wrong: {error}.") from error


def _terminate(_number: int, _frame: object) -> None:
    """Handle SIGTERM during the start like Ctrl-C, so that the processes already started are stopped."""
    raise SystemExit(143)


def _serve(start: _Start, database_url: str, dashboard: Path | None, postgres: EmbeddedPostgres | None = None) -> None:
    from onsembl.agent.errors import AgentError
    from onsembl.api.app import create_app, drain
    from onsembl.api.settings import Settings
    from onsembl.cli.server.demo import Demo
    from onsembl.cli.server.instances import plan_processes, serve_processes
    from onsembl.cli.server.postgres_watch import keep_running
    from onsembl.cli.server.serve import Failure, serve
    from onsembl.realtime.auth.settings import AuthSettings
    from onsembl.sql.cancellation import cancel_until_done
    from onsembl.sql.migrate import MigrationError, migrate
    from onsembl.tasks.standby import StandbySettings
    from onsembl.tasks.worker import WorkerSettings

    try:
        asyncio.run(migrate(database_url, builtin_supabase=start.hosted is None))
    except MigrationError as error:
        raise CliError(str(error)) from error
    except psycopg.OperationalError as error:
        raise not_responding(error) from error
    worker = WorkerSettings(
        dead_after=start.dead_after,
        instance_dead_after=start.instance_dead_after,
        archive_days=start.archive_days,
    )
    standby = StandbySettings(
        dead_after=start.dead_after,
        instance_dead_after=start.instance_dead_after,
        jobs_per_worker=start.jobs_per_worker,
        wake=start.wake,
    )
    settings = Settings(
        database_url=database_url,
        public_url=start.address,
        address=start.instance_address or _instance_address(start.listener),
        hosted=start.hosted,
        dashboard=dashboard,
        jobs_per_worker=start.jobs_per_worker,
        worker=None if start.no_worker else worker,
        standby=standby if start.no_worker else None,
        dead_after=start.dead_after,
        instance_dead_after=start.instance_dead_after,
        allowed_hosts=start.allowed_hosts,
        client_address_header=start.client_address_header,
        anonymous_broadcast=start.anonymous_broadcast,
        agent_access_token=start.agent_access_token,
        agent_refresh_token=start.agent_refresh_token,
        halt_seconds=start.halt_seconds,
        cancel_times=start.cancel_times,
        connections=start.database_connections,
        pooler_url=start.pooler_url,
        database_limit=start.database_limit,
        auth=AuthSettings(mail_server=start.mail_server),
        metrics_token=os.environ.get("ONSEMBL_METRICS_TOKEN") or None,
        realtime_url=start.realtime_url,
        drain_seconds=start.drain_seconds,
        demo=start.demo,
    )
    demo = Demo(start.data_dir / "demo") if start.demo else None
    failure = Failure()
    watching: list[asyncio.Task[None]] = []

    def watch_ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            failure.report(error)

    async def started() -> None:
        if postgres is not None:
            watching.append(asyncio.create_task(keep_running(postgres), name="watch of Postgres"))
            watching[0].add_done_callback(watch_ended)
        if start.hosted is None:
            await _print_first_operator(database_url)
        took = time.monotonic() - start.began
        number = f" with {start.instances} instances" if start.instances > 1 else ""
        print_line(f"Onsembl is ready at {start.address}{number} ({took:.1f} s). Stop it with Ctrl-C.")
        if demo is not None:
            try:
                await demo.start(address_of(start.listener), database_url)
            except AgentError as error:
                print_line(f"The demo could not be started: {error}", err=True)

    async def stop_demo_and_drain(hurry: asyncio.Event) -> None:
        if demo is not None:
            await demo.stop()
        await drain(app, hurry)

    async def stopping() -> None:
        await cancel_until_done(watching)
        if demo is not None:
            await demo.stop()

    if start.instances == 1:
        app = create_app(settings, failure.report)
        with ExitStack() as stack:
            private = [stack.enter_context(listener) for listener in _private_listener(start.listener)]
            serve(app, [start.listener, *private], started, stopping, failure, stop_demo_and_drain)
        return
    with ExitStack() as stack:
        private, host = _private_listeners(start.instances + 1)
        for listener in private:
            stack.enter_context(listener)
        serve_processes(
            plan_processes(settings, start.instances, start.listener, private, host), started, stopping, failure
        )


async def _print_first_operator(database_url: str) -> None:
    from onsembl.cli.server.first_operator import create_first_operator

    created = await create_first_operator(database_url)
    if created is not None:
        email, password = created
        print_line()
        print_line(f"  Sign in with   {email}")
        print_line(f"  and password   {password}")
        print_line("  (shown this once)")
        print_line()
