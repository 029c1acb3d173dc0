"""What an API process is told when it starts; every setting has a default that suits one machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onsembl.api.auth.rate_limits import RateLimits
from onsembl.api.terminals.archiver import STREAM_BYTES, TOTAL_BYTES
from onsembl.fleet.halt import HALT_SECONDS
from onsembl.protocol.states import AgentKind
from onsembl.protocol.stop_timeouts import StopTimeouts
from onsembl.realtime.auth.settings import AuthSettings
from onsembl.realtime.hosted import HostedProject
from onsembl.tasks.worker import WorkerSettings

DAY = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times are in seconds, sizes in bytes.

    `public_url` is where browsers and agents reach this instance, `address` where other instances do. `hosted` is the
    Supabase project; without one the built-in one is served, set up by `auth`. `worker` runs jobs in this process too;
    those anywhere are shown as dead when they were silent for `dead_after`.
    Whoever shows `metrics_token` is told the metrics; without one, this machine is.
    `ring_bytes` of a stream are kept for viewers, `backlog_bytes` for the archive while it cannot be written, and
    `total_backlog_bytes` of all streams together.
    `client_address_header` is where the proxy in front says who asks; without one the peer is the client.
    `halt_seconds` is how long an agent may take for its whole ladder in an emergency stop; `cancel_times` are those of
    the ladder of a cancel, for kinds of agents whose own are not to be in force.
    """

    database_url: str
    public_url: str
    address: str = "127.0.0.1"
    hosted: HostedProject | None = None
    dashboard: Path | None = None
    worker: WorkerSettings | None = field(default_factory=WorkerSettings)
    dead_after: float = WorkerSettings().dead_after
    allowed_origins: tuple[str, ...] = ()
    client_address_header: str | None = None
    metrics_token: str | None = None
    limits: RateLimits = field(default_factory=RateLimits)
    ring_bytes: int = 2 * 1024 * 1024
    backlog_bytes: int = STREAM_BYTES
    total_backlog_bytes: int = TOTAL_BYTES
    auth: AuthSettings = field(default_factory=AuthSettings)
    heartbeat: float = 30.0
    heartbeat_timeout: float = 10.0
    instance_heartbeat: float = 10.0
    agent_access_token: float = 15 * 60.0
    agent_refresh_token: float = 7 * DAY
    halt_seconds: float = HALT_SECONDS
    cancel_times: Mapping[AgentKind, StopTimeouts] = field(default_factory=dict[AgentKind, StopTimeouts])
    pool_size: int = 10
