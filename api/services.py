"""The parts of one API process, which every route and socket is given."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import psycopg

from onsembl.api.auth.accounts import Accounts, disabled
from onsembl.api.auth.agent_keys import AgentKeys
from onsembl.api.auth.agent_tokens import AgentTokens
from onsembl.api.auth.device_flow import DeviceFlow
from onsembl.api.auth.instance_tokens import InstanceTokens
from onsembl.api.auth.operator import Operator
from onsembl.api.auth.operator_tokens import OperatorTokens
from onsembl.api.auth.rate_limits import RateLimiter
from onsembl.api.auth.rejections import Rejections
from onsembl.api.background import BackgroundTasks
from onsembl.api.database_state import DatabaseState
from onsembl.api.event_feed import EventFeed
from onsembl.api.host_requests import HostRequests
from onsembl.api.http.problems import Problem
from onsembl.api.http.unreadable_values import UnreadableValues
from onsembl.api.instances.affinity import Affinity
from onsembl.api.instances.drain import Drain
from onsembl.api.instances.relays import Relays
from onsembl.api.metrics import Metrics, RealtimeMetrics, StateMetrics
from onsembl.api.release_wheel import ReleaseWheel
from onsembl.api.settings import Settings
from onsembl.api.terminals.agent_presence import AgentPresence
from onsembl.api.terminals.agent_reports import AgentReports
from onsembl.api.terminals.hub import Hub
from onsembl.protocol.ids import OperatorId
from onsembl.protocol.states import Role
from onsembl.realtime.builtin import BuiltinSupabase
from onsembl.realtime.operators import OperatorDirectory
from onsembl.sql import operators
from onsembl.sql.database import Pool


@dataclass
class Services:
    """The parts of one process, and the operators that it has authorized."""

    settings: Settings
    pool: Pool
    hub: Hub
    affinity: Affinity
    relays: Relays
    instance_tokens: InstanceTokens
    presence: AgentPresence
    drain: Drain
    reports: AgentReports
    agent_keys: AgentKeys
    agent_tokens: AgentTokens
    operator_tokens: OperatorTokens
    accounts: Accounts
    supabase_key: str
    rate_limiter: RateLimiter
    device_flow: DeviceFlow
    rejections: Rejections
    unreadable: UnreadableValues
    database: DatabaseState
    directory: OperatorDirectory
    builtin: BuiltinSupabase | None
    metrics: Metrics
    event_feed: EventFeed
    host_requests: HostRequests
    release_wheel: ReleaseWheel
    background_tasks: BackgroundTasks = field(default_factory=BackgroundTasks)
    verifying: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the audit log is verified, which uses a connection for minutes."""
    _recorded: dict[OperatorId, tuple[str, Role]] = field(default_factory=dict[OperatorId, tuple[str, Role]])
    _forget_count: int = 0

    def __post_init__(self) -> None:
        self.metrics.registry.register(StateMetrics(self.hub, self.database, self.relays))
        if self.builtin is not None and self.builtin.realtime is not None:
            self.metrics.registry.register(RealtimeMetrics(self.builtin.realtime))

    async def authorize(self, token: str, least: Role, address: str) -> Operator:
        """The operator at `address` who holds the access token, if the role includes `least`. Raises Problem 401, 403,
        429 or 503."""
        operator = await self.accounts.present(await self.operator_tokens.verify(token, address), token)
        if operator.role is None or not operator.role.includes(least):
            raise Problem(403, f"This requires the role {least}; your role is {operator.role or 'none'}.")
        await self._record_operator(operator, operator.role)
        return operator

    async def _record_operator(self, operator: Operator, role: Role) -> None:
        """Record the operator in the database, once until `forget` is called. Raises Problem 403 for a disabled
        operator."""
        if self._recorded.get(operator.id) == (operator.email, role):
            return
        count = self._forget_count
        try:
            async with self.pool.connection() as conn:
                enabled = await operators.seen(conn, operator.id, operator.email, role)
        except psycopg.errors.ReadOnlySqlTransaction:  # reads are served; the operator is recorded later
            async with self.pool.connection() as conn:
                if operator.id in await operators.disabled(conn):
                    raise disabled() from None
            return
        if not enabled:
            raise disabled()
        if self._forget_count == count:  # else the answer may be older than a change since
            self._recorded[operator.id] = (operator.email, role)

    def forget(self, operator_id: OperatorId | None = None) -> None:
        """Ask the database again about this operator, or about all, at the next request."""
        self._forget_count += 1
        self.accounts.forget(operator_id)
        if operator_id is None:
            self._recorded.clear()
        else:
            self._recorded.pop(operator_id, None)
