"""The `audit` table: who did what to which object, from which address, with which outcome. Rows are never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from onsembl.sql.database import Connection

ACTIONS: dict[str, str] = {
    "agent.all_cancelled": "An operator cancelled all commands of an agent.",
    "agent.connected": "An agent connected and is online.",
    "agent.deleted": "An admin deleted an agent with its commands; the detail has its name.",
    "agent.disabled": "An agent was disabled: its connection is closed and its tokens are rejected.",
    "agent.disconnected": "An agent's connection ended.",
    "agent.enabled": "A disabled agent was enabled.",
    "agent.enrolled": "An agent was enrolled with a one-time token.",
    "agent.file_rules_set": "An admin set what operators see of an agent's working folder: before and after.",
    "agent.file_seen": "An operator looked at a file or folder of an agent, or was rejected; the detail has the path.",
    "agent.labelled": "An agent's labels were replaced; the detail has the new ones.",
    "agent.limited": "An agent's limits were set; the detail has them.",
    "agent.logged_out": "An agent revoked its own credentials.",
    "agent.paused": "An agent was paused: no queued command starts.",
    "agent.rules_set": "An admin set the rules for an agent's tool calls: before and after.",
    "agent.permission_mode_set": "An admin set how far an agent may go without asking: before and after.",
    "agent.problem_begun": "An agent reported that it takes no command, for example because its disk is full.",
    "agent.problem_over": "The problem of an agent is over, and its queue continues.",
    "agent.recovered": "An agent got new tokens in a recovery, or was rejected because its secret was used before.",
    "agent.refresh": "An agent exchanged its refresh token, or was rejected.",
    "agent.renamed": "An admin renamed an agent: before and after.",
    "agent.restart_requested": "An operator requested the restart of an agent's program.",
    "agent.resumed": "A paused agent was resumed: its queue continues.",
    "agent.stop_requested": "An operator requested the stop of an agent's program.",
    "agent.stranded": "An agent was marked offline, because the instance with its connection is dead.",
    "agent.usage_limit_over": "An agent waits no longer for its vendor's limit: it was reset, or an operator said so.",
    "agent.usage_limit_reached": "An agent reached a usage limit of its vendor, and waits; the detail says until when.",
    "alert.acknowledged": "An operator acknowledged an alert.",
    "archive.dropped": "A day of recordings was deleted after its retention time.",
    "attention.answered": "A request of an agent was answered by an operator or a rule; the detail has what was asked, "
    "and in `cli_rule` the rule, with its file, that the CLI was let keep.",
    "attention.dismissed": "An operator dismissed a note: of a failed turn, or of a usage limit.",
    "attention.rule_deleted": "An operator deleted a rule that answered requests of an agent.",
    "audit.dropped": "A day of this log was deleted after its retention time.",
    "audit.exported": "This log was exported.",
    "command.annotated": "A command's note or tags were changed: before and after.",
    "command.cancel_requested": "An operator requested the cancellation of a command.",
    "command.cancel_step": "A step of a cancellation was taken: interrupt, SIGINT, SIGTERM, SIGKILL, sweep.",
    "command.continued": "A command whose turn ended at a usage limit of the vendor was sent again.",
    "command.edited": "A queued command was edited: before and after.",
    "command.ended": "A command ended; the detail has the result, and by how many seconds the agent's clock was off.",
    "command.limit_passed": "A command exceeded a limit and its agent did not stop it, so the server stopped it.",
    "command.moved": "A queued command was moved within its queue.",
    "command.reassigned": "A queued command was sent to another agent in the place of its own.",
    "command.requested": "A command was sent to an agent's queue.",
    "command.steered": "A running turn has taken a text that was sent into it.",
    "command.undelivered": "A command could not be delivered to its agent.",
    "conversation.begun_anew": "A conversation was begun in the place of one that its CLI had forgotten.",
    "conversation.forked": "A conversation was begun as a copy of another one.",
    "conversation.imported": "A conversation that was begun outside was taken up.",
    "conversation.renamed": "A conversation got another title.",
    "device.approved": "An admin approved an agent that asked to enrol.",
    "device.refused": "An admin refused an agent that asked to enrol.",
    "device.requested": "A machine asked to enrol as an agent.",
    "enrolment_token.created": "An admin created a one-time token.",
    "enrolment_token.withdrawn": "An admin withdrew an unused one-time token.",
    "group.cancel_requested": "An operator requested the cancellation of a group.",
    "group.requested": "A command was sent to the queues of several agents.",
    "halt.agent_dying": "Processes survived SIGKILL in an emergency stop; the detail has their process ids.",
    "halt.agent_stopped": "An agent proved that no process of any command is left.",
    "halt.begun": "An emergency stop began: no command is dispatched, and all are cancelled.",
    "halt.lifted": "A halt was lifted: commands start again.",
    "halt.lines_cancelled": "The queued commands were cancelled by an emergency stop.",
    "host.agent_ended": "The program of an agent that a host started has ended; the detail has how.",
    "host.agent_enrolled": "A host enrolled an agent that an admin had requested.",
    "host.agent_started": "A host started the program of an agent that an admin had requested.",
    "host.connected": "A host connected; the detail has what its owner allows.",
    "host.deleted": "An admin deleted a host: its secret is rejected.",
    "host.enrolled": "A machine was enrolled as a host with a one-time token.",
    "host.start_failed": "A host could not start an agent; the detail has the reason.",
    "host.start_refused": "A host refused to start an agent by its owner's rules; the detail has the reason.",
    "host.start_requested": "An admin requested an agent on a host; the detail has its name, kind and folder.",
    "job.retried": "A failed periodic job was run again by hand.",
    "keys.rotated": "A new key signs access tokens.",
    "operator.added": "An operator was added on the command line.",
    "operator.disabled": "An operator was disabled.",
    "operator.enabled": "A disabled operator was enabled.",
    "operator.link_sent": "A link to sign in or to set a new password was sent by e-mail.",
    "operator.password_changed": "An operator's password was changed.",
    "operator.refresh": "An operator's session was refreshed, or the refresh was rejected.",
    "operator.role_set": "An operator's role was changed.",
    "operator.sign_in": "An operator signed in, or was rejected.",
    "operator.sign_out": "An operator signed out.",
    "operator.sign_up": "A person signed up, or was rejected.",
    "operator.user_changed": "A user was changed by the project's admin interface.",
    "operator.user_created": "A user was created by the project's admin interface.",
    "operator.user_deleted": "A user was deleted by the project's admin interface.",
    "preset.deleted": "A preset was deleted; the detail has its content.",
    "preset.saved": "A preset was created, changed or renamed: before and after.",
    "price.deleted": "An admin deleted prices of models; the detail has them.",
    "price.set": "An admin set prices of models; the detail has them.",
    "recording.exported": "A recording was exported.",
    "recovery.closed": "An admin closed a recovery before its end.",
    "recovery.opened": "An admin opened a recovery, in which each agent can get new tokens once.",
    "report.exported": "A report was exported; the detail has its version and the format.",
    "report.pinned": "A report was pinned: it is kept until it is unpinned.",
    "report.unpinned": "A report was unpinned: it is deleted with the recordings of its time.",
    "schedule.changed": "A schedule was changed: before and after.",
    "schedule.created": "A schedule was created; the detail has its content.",
    "schedule.deleted": "A schedule was deleted; the detail has its content.",
    "schedule.fired": "A schedule sent its command or group, or failed; the detail has the id or the reason.",
    "schedule.paused": "A schedule was paused: it does not run until it is resumed.",
    "schedule.resumed": "A paused schedule was resumed.",
    "schedule.skipped": "A schedule sent nothing, because its previous command is still queued.",
    "terminal.control_ended": "An operator released control of a terminal.",
    "terminal.control_taken_over": "An operator took control of a terminal from another operator.",
    "terminal.controlled": "An operator took control of a terminal.",
    "tool_policy.created": "An admin kept a tool for admins, or denied it, for an agent, a label or all agents.",
    "tool_policy.deleted": "An admin deleted a policy for a tool.",
    "request.refused": "Requests were rejected; the detail has the reason and counts equal ones.",
}
"""Every action of the audit log, with its meaning. No other action can be written."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The person or program that acted, and its network address."""

    kind: Literal["operator", "agent", "system", "anonymous"]
    id: UUID | None = None
    name: str = ""
    address: str = ""


SYSTEM = Actor("system", name="system")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the log. Raises ValueError for an action that is not in `ACTIONS`."""

    actor: Actor
    action: str
    target_kind: str = ""
    target_id: str = ""
    outcome: Literal["ok", "refused", "failed"] = "ok"
    detail: Mapping[str, object] = field(default_factory=dict[str, object])

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"{self.action!r} is not an action of the audit log: add it to ACTIONS in sql/audit.py")


async def write(conn: Connection, event: Event) -> None:
    """Add an event, in the transaction of the change that it records."""
    await conn.execute(
        """insert into audit
               (actor_kind, actor_id, actor_name, address, action, target_kind, target_id, outcome, detail)
           values (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        [
            event.actor.kind,
            event.actor.id,
            event.actor.name,
            event.actor.address,
            event.action,
            event.target_kind,
            event.target_id,
            event.outcome,
            Jsonb(dict(event.detail)),
        ],
    )
