"""The settings of an API process; the defaults suit one machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onsembl.api.auth.rate_limits import RateLimits
from onsembl.api.terminals.archiver import STREAM_BYTES, TOTAL_BYTES
from onsembl.protocol.messages import FIRST_MESSAGE_SECONDS
from onsembl.protocol.states import AgentKind
from onsembl.protocol.stop_timeouts import HALT_SECONDS, StopTimeouts
from onsembl.protocol.waking import JOBS_PER_WORKER
from onsembl.realtime.auth.settings import AuthSettings
from onsembl.realtime.channels.limits import RealtimeLimits
from onsembl.realtime.hosted import HostedProject
from onsembl.tasks.standby import StandbySettings
from onsembl.tasks.worker import INSTANCE_DEAD_SECONDS, WorkerSettings

DAY = 24 * 3600.0
CONNECTIONS = 24
"""How many connections to the database an API process uses, unless the settings say otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times are in seconds, sizes in bytes.

    `public_url` is the URL at which browsers and agents reach this instance; other instances reach it at `address`.
    `hosted` is the Supabase project; without one the built-in Supabase is served, with the settings `auth`.
    `worker` are the settings of a worker in this process. Any worker that was silent for `dead_after` is shown as dead.
    `standby` is for a process without a worker: with it, nothing else needs a worker to be alive. One worker is wanted
    for `jobs_per_worker` jobs.
    Workers consider this instance dead when it is silent for `instance_dead_after`.
    An instance that stops moves its agents to other instances within `drain_seconds`.
    `allowed_hosts` are names under which browsers may load the page, beside that of `public_url` and localhost.
    `metrics_token` is required to read the metrics; without one, only this machine may read them.
    `ring_bytes` of each stream are kept in memory for viewers. While the archive cannot be written, at most
    `backlog_bytes` of each stream and `total_backlog_bytes` of all streams wait for it.
    `client_address_header` is the header in which your reverse proxy passes the client's IP address; without one, the
    address of the connection is the client's.
    With `anonymous_broadcast`, clients of the built-in Realtime may join and use public channels without signing in.
    `halt_seconds` is how long an agent may take to stop everything in an emergency stop; `cancel_times` replace the
    timeouts of a cancel's escalation for agents of these kinds.
    `connections` is how many connections to the database the process uses at most, with its worker; the built-in
    Supabase has its own. A database that comes near `database_limit` (bytes) is an alert.
    Statements go to `pooler_url`, if there is one: it may lead to a pooler in transaction mode.
    With `realtime_url`, the clients of the built-in Realtime are passed on to the process at this URL.
    With `demo`, the page says that this is a demo.
    `process` is this process's name among those of one `up`, and `siblings` has the URLs of the others by name.
    """

    database_url: str
    public_url: str
    address: str = "127.0.0.1"
    hosted: HostedProject | None = None
    dashboard: Path | None = None
    standby: StandbySettings | None = None
    jobs_per_worker: int = JOBS_PER_WORKER
    worker: WorkerSettings | None = field(default_factory=WorkerSettings)
    dead_after: float = WorkerSettings().dead_after
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    client_address_header: str | None = None
    anonymous_broadcast: bool = False
    metrics_token: str | None = None
    limits: RateLimits = field(default_factory=RateLimits)
    ring_bytes: int = 2 * 1024 * 1024
    backlog_bytes: int = STREAM_BYTES
    total_backlog_bytes: int = TOTAL_BYTES
    auth: AuthSettings = field(default_factory=AuthSettings)
    heartbeat: float = 30.0
    heartbeat_timeout: float = 10.0
    instance_dead_after: float = INSTANCE_DEAD_SECONDS
    drain_seconds: float = 10.0
    agent_access_token: float = 15 * 60.0
    agent_refresh_token: float = 7 * DAY
    halt_seconds: float = HALT_SECONDS
    cancel_times: Mapping[AgentKind, StopTimeouts] = field(default_factory=dict[AgentKind, StopTimeouts])
    connections: int = CONNECTIONS
    pooler_url: str | None = None
    database_limit: int | None = None
    realtime_url: str | None = None
    demo: bool = False
    process: str = ""
    siblings: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def instance_heartbeat(self) -> float:
        """The interval of this instance's heartbeats: some of them may be late."""
        return self.instance_dead_after / 4

    @property
    def realtime_limits(self) -> RealtimeLimits:
        """The limits of the built-in Realtime."""
        return RealtimeLimits(
            unauthenticated_per_address=self.limits.unauthenticated_realtime_sockets,
            authentication_seconds=math.inf if self.anonymous_broadcast else FIRST_MESSAGE_SECONDS,
            anonymous_broadcast=self.anonymous_broadcast,
            regular_expressions=False,
        )
