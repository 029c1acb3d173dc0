"""Sending commands: to one agent or to a group of agents, from a route or from a schedule."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, cast
from uuid import UUID

import msgspec
from msgspec import Meta, convert, to_builtins
from psycopg.rows import DictRow

from onsembl.fleet import instance_messages
from onsembl.fleet.instance_messages import InstanceMessage
from onsembl.fleet.report_export import report_text
from onsembl.protocol import request_ids
from onsembl.protocol.attachments import MAX_ATTACHMENT_BYTES, Attachment
from onsembl.protocol.command_messages import MAX_STEERS
from onsembl.protocol.field_types import END, Bounded, CommandText, Name, Priority
from onsembl.protocol.ids import AgentId
from onsembl.protocol.limits import NO_LIMITS, CommandLimits
from onsembl.protocol.permissions import PermissionMode, is_laxer
from onsembl.protocol.presets import Preset, Value, Values, ValuesError, render, report_ids
from onsembl.protocol.states import AgentKind
from onsembl.protocol.tool_rules import NO_RULES, REQUESTED_NO_RULES, RequestedRules, ToolRules
from onsembl.protocol.turn_messages import Effort, ModelName
from onsembl.sql import agents, audit, command_groups, commands, conversations, presets, reports
from onsembl.sql import attachments as files
from onsembl.sql.database import Connection, Pool

DEFAULT_PRIORITY = 5


ConversationChoice = Annotated[
    str,
    Meta(
        max_length=36,
        pattern="^(new|latest|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})" + END,
        description="`new`, `latest`, or the id of a conversation.",
    ),
]


class CommandContent(Bounded, frozen=True, kw_only=True):
    """The content of a command: either a text, or a preset with values for its variables. The default priority is the
    preset's, or 5. A limit that is not given is the preset's.

    A prompt is a turn of a `conversation` of its agent: a new one, the latest one, or the one of this id. `model` and
    `effort` are those of this turn; without them the CLI decides. The `permission_mode` of this turn goes no further
    than the agent's, which is its default; `rules` allow and deny tool calls beside those of the preset and the agent,
    and allow no more than the agent may. A command line takes none of these.
    """

    text: CommandText | None = None
    preset: Name | None = None
    values: Values = msgspec.field(default_factory=dict[str, Value])
    priority: Priority | None = None
    limits: CommandLimits = NO_LIMITS
    conversation: ConversationChoice = "new"
    model: ModelName | None = None
    effort: Effort | None = None
    permission_mode: PermissionMode | None = None
    rules: RequestedRules = REQUESTED_NO_RULES

    @property
    def turn_settings(self) -> dict[str, object]:
        """The model, the effort and the permission mode, where given."""
        given = {"model": self.model, "effort": self.effort, "permission_mode": self.permission_mode}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Sent:
    """What `send` has written: a command, or a group with a command for each agent, or neither if every agent was
    skipped."""

    command: DictRow | None = None
    group: DictRow | None = None
    agent_ids: Sequence[AgentId] = ()
    """The agents of the group, whose queues are promoted by `promote_queues` once the transaction is committed."""
    skipped: list[str] = field(default_factory=list[str])
    """The names of the agents that `skip` has named."""


class SendError(Exception):
    """The command cannot be sent; the text says why."""


class KindError(SendError):
    """The preset is not for agents of these kinds; `kinds` are those that it is for."""

    def __init__(self, preset: Preset, others: Sequence[str]) -> None:
        self.kinds = [str(kind) for kind in preset.kinds or [preset.kind]]
        few = "the kind" if len(self.kinds) == 1 else "the kinds"
        super().__init__(
            f"The preset {preset.name} is for agents of {few} {', '.join(self.kinds)}, not {', '.join(others)}."
        )


class ContentError(SendError):
    """The content is invalid; `fields` says which variables of the preset are, and why."""

    def __init__(self, detail: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.fields = dict(fields or {})


class AgentNotFoundError(SendError):
    """An agent that the target names does not exist, or is disabled."""


class SteerError(SendError):
    """The agent takes no text into a running turn."""


class NoTargetError(SendError):
    """No agent can take the command now."""


async def steer(conn: Connection, content: CommandContent, agent_id: AgentId, actor: audit.Actor) -> DictRow:
    """Send a text into the turn that the agent runs, in the caller's transaction; return its row.

    The text takes the settings of the turn. If no turn runs, or not of the conversation that the content names, it is
    the next command. Raises SendError; then nothing is written.
    """
    agent = await _enabled_agent(conn, agent_id)
    if content.turn_settings:
        raise ContentError("A text for the running turn takes no settings of a turn.")
    if not AgentKind(agent["kind"]).converses:
        raise SteerError(f"The agent {agent['name']} runs command lines: type into its terminal instead.")
    if not agent["takes_steers"] and agent["connected_at"] is not None:
        raise SteerError(
            f"The agent {agent['name']} runs an older version, which cannot put a text into a running turn. "
            "Update it, or queue the text."
        )
    rendered = await render_content(conn, content, [agent["kind"]])
    if rendered.rules:
        raise ContentError("A text for the running turn takes no settings of a turn.")
    row = await _request(conn, rendered, agent_id, actor, steer=True)
    if row["steer_state"] == "waiting" and (instance_id := await agents.online_at(conn, agent_id)) is not None:
        await instance_messages.send(conn, instance_id, InstanceMessage(op="attend", agent_id=agent_id))
    return row


async def send_into_turn(
    conn: Connection, agent_id: AgentId, conversation_id: UUID, text: str, actor: audit.Actor
) -> DictRow:
    """Send a text into the running turn of a conversation, in the caller's transaction; return its row. If the CLI
    takes no text into a turn, it is the next command of the conversation, before the others in the queue. Raises
    SendError."""
    content = CommandContent(text=text, conversation=str(conversation_id))
    return await _request(conn, await render_content(conn, content, ()), agent_id, actor, steer=True)


async def send(
    conn: Connection,
    content: CommandContent,
    target: AgentId | Mapping[str, Any],
    actor: audit.Actor,
    *,
    attachments: Sequence[UUID] = (),
    group_of_one: bool = True,
    skip: Callable[[Collection[AgentId]], Awaitable[Collection[AgentId]]] | None = None,
) -> Sent:
    """Put a command in the queue of an agent, or of every agent of a target, in the caller's transaction.

    `target` is an agent's id, or a target as `find_targets` takes it, whose commands become a group; without
    `group_of_one`, a target that names a single agent gets a command without a group. `skip` is called with the
    targets' ids and returns those that get no command. `attachments` are files that the actor has stored. Raises
    SendError; then nothing is written.

    A plain text for an agent's id is one statement, which also gives the command its job if the agent is free.
    """
    if isinstance(target, UUID):
        plain = content.preset is None and not content.rules and not attachments
        targets = [] if plain else [await _enabled_agent(conn, target)]
        rendered = await render_content(conn, content, [agent["kind"] for agent in targets])
        rendered = rendered.with_attachments(await _stored(conn, attachments, actor))
        check_turn(rendered, targets)
        return Sent(command=await _request(conn, rendered, target, actor))
    rows = await find_targets(conn, target)
    is_group = group_of_one or len(rows) > 1 or "agents" not in target
    skipped: list[str] = []
    if skip is not None:
        ids = await skip([AgentId(row["id"]) for row in rows])
        skipped = [row["name"] for row in rows if row["id"] in ids]
        rows = [row for row in rows if row["id"] not in ids]
        if not rows:
            return Sent(skipped=skipped)
    rendered = await render_content(conn, content, [row["kind"] for row in rows])
    rendered = rendered.with_attachments(await _stored(conn, attachments, actor))
    check_turn(rendered, rows)
    if not is_group:
        return Sent(command=await _request(conn, rendered, AgentId(rows[0]["id"]), actor), skipped=skipped)
    agent_ids = [AgentId(row["id"]) for row in rows]
    group = await _send_to_group(conn, rendered, agent_ids, target, actor)
    return Sent(group=group, agent_ids=agent_ids, skipped=skipped)


async def find_targets(conn: Connection, target: Mapping[str, Any]) -> list[DictRow]:
    """The enabled agents of a target: `{"agents": […]}` (names or ids), `{"labels": […]}` (agents with all of these
    labels) or `{"all": true}`. Raises AgentNotFoundError or NoTargetError."""
    names, labels = target.get("agents"), target.get("labels")
    rows = await agents.matching(conn, names=names, labels=labels)
    missing = set(names or ()) - {name for row in rows for name in (row["name"], str(row["id"]))}
    if missing:
        raise AgentNotFoundError(f"Agent not found, or disabled: {', '.join(sorted(missing))}.")
    if not rows:
        raise NoTargetError("No enabled agent matches the target.")
    return rows


@dataclass(frozen=True, slots=True)
class RenderedCommand:
    """The text that agents run, and its settings; `preset` is the name of the preset that the text is rendered from."""

    text: str
    priority: int
    preset: str | None
    limits: CommandLimits
    conversation: str
    """`new`, `latest`, or an id."""
    turn_settings: Mapping[str, object]
    """For the CLI; with the `rules` of the command and its preset, if any."""
    rules: ToolRules = NO_RULES
    attachments: Sequence[Attachment] = ()

    def with_attachments(self, attachments: Sequence[Attachment]) -> RenderedCommand:
        """This command with these files."""
        if not attachments:
            return self
        settings = {**self.turn_settings, "attachments": to_builtins(attachments)}
        return replace(self, attachments=attachments, turn_settings=settings)

    def audit_detail(self, agent_id: AgentId) -> dict[str, object]:
        """The detail of the audit log's event when the command is sent to this agent."""
        detail: dict[str, object] = {"agent_id": str(agent_id), "priority": self.priority}
        if self.preset is not None:
            detail["preset"] = self.preset
        if limits := to_builtins(self.limits):
            detail["limits"] = limits
        if self.rules:
            detail["rules"] = to_builtins(self.rules)
        if self.attachments:
            detail["attachments"] = to_builtins(self.attachments)
        return detail


async def render_content(conn: Connection, content: CommandContent, kinds: Iterable[str]) -> RenderedCommand:
    """The text and the settings of `content` for agents of these kinds. Raises ContentError or KindError."""
    if (content.text is None) == (content.preset is None):
        raise ContentError("Give either a text or a preset.")
    if content.text is not None:
        if content.values:
            raise ContentError("Only a preset takes values.")
        priority = content.priority or DEFAULT_PRIORITY
        return _rendered(content, content.text, priority, None, content.limits, content.rules)
    assert content.preset is not None
    try:
        preset = await presets.find(conn, content.preset)
    except msgspec.ValidationError as error:
        raise ContentError(f"The preset {content.preset} cannot be read: {error}.") from error
    if preset is None:
        raise ContentError(f"Preset not found: {content.preset}.")
    others = sorted({kind for kind in kinds if not preset.fits(kind)})
    if others:
        raise KindError(preset, others)
    try:
        text = render(preset, content.values, await _named_reports(conn, preset, content.values))
    except ValuesError as error:
        raise ContentError(f"The values do not fit the preset {preset.name}: {error}.", error.fields) from error
    priority = content.priority or preset.priority or DEFAULT_PRIORITY
    limits, rules = content.limits.with_defaults(preset.limits), preset.rules.joined(content.rules)
    command = _rendered(content, text, priority, preset.name, limits, rules)
    return replace(command, turn_settings={**command.turn_settings, "report": True}) if preset.report else command


async def _named_reports(conn: Connection, preset: Preset, values: Mapping[str, Value]) -> dict[UUID, str]:
    """The text of each report that the values name, by its id."""
    named: set[UUID] = set()
    for variable in preset.variables:
        value = values.get(variable.name, variable.default)
        if variable.type == "reports" and isinstance(value, str):
            with suppress(ValueError):  # the value is refused when it is rendered
                named.update(report_ids(value))
    return {id: report_text(row) for id in named if (row := await reports.get(conn, id)) is not None}


def _rendered(
    content: CommandContent, text: str, priority: int, preset: str | None, limits: CommandLimits, rules: ToolRules
) -> RenderedCommand:
    settings = content.turn_settings | ({"rules": to_builtins(rules)} if rules else {})
    return RenderedCommand(text, priority, preset, limits, content.conversation, settings, rules)


async def promote_queues(pool: Pool, agent_ids: Sequence[AgentId]) -> None:
    """Give each of these agents its next command if the agent is free, each in its own transaction. The recovery sweep
    promotes the queues that a failure leaves out."""
    async with pool.connection() as conn:
        for agent_id in agent_ids:
            async with conn.transaction():
                if await agents.lock(conn, agent_id) is not None:
                    await commands.promote(conn, agent_id)


async def promote_idle_queues(conn: Connection) -> None:
    """Give every free agent that has queued commands its next command, each in its own transaction."""
    for agent_id in await commands.idle_queues(conn):
        await agents.lock(conn, agent_id)
        await commands.promote(conn, AgentId(agent_id))
        await conn.commit()


async def send_rendered(
    conn: Connection, command: RenderedCommand, agent: DictRow, actor: audit.Actor
) -> DictRow | None:
    """Put a command that is rendered already in the queue of one agent; None when that takes no command. Raises
    ContentError. The files of the command are not given to it."""
    check_turn(command, [agent])
    return await _insert(conn, command, AgentId(agent["id"]), actor)


async def _insert(
    conn: Connection, command: RenderedCommand, agent_id: AgentId, actor: audit.Actor, *, steer: bool = False
) -> DictRow | None:
    return await commands.request(
        conn,
        agent_id,
        text=command.text,
        priority=command.priority,
        preset=command.preset,
        request_id=request_ids.current(),
        limits=command.limits,
        conversation=command.conversation,
        settings=command.turn_settings,
        actor=actor,
        detail=command.audit_detail(agent_id),
        steer=steer,
    )


async def _request(
    conn: Connection, command: RenderedCommand, agent_id: AgentId, actor: audit.Actor, *, steer: bool = False
) -> DictRow:
    row = await _insert(conn, command, agent_id, actor, steer=steer)
    if row is None:
        agent = await _enabled_agent(conn, agent_id)
        await _raise_refused(conn, command, agent)
        if steer:
            raise SteerError(f"The running turn has {MAX_STEERS} texts already. Queue this one.")
        raise NoTargetError(f"The agent {agent['name']} was disabled when the command was sent.")
    await _attach(conn, command, [row])
    return row


async def _stored(conn: Connection, ids: Sequence[UUID], actor: audit.Actor) -> list[Attachment]:
    """The files of these ids that the actor has stored, in this order. Raises ContentError."""
    if not ids:
        return []
    stored = {row["id"]: convert(row, Attachment) for row in await files.of_operator(conn, actor.id, ids)}
    if missing := [str(id) for id in ids if id not in stored]:
        raise ContentError(f"You have stored no such file: {', '.join(missing)}. A file is kept for a day.")
    size = sum(attachment.size for attachment in stored.values())
    if size > MAX_ATTACHMENT_BYTES:
        raise ContentError(f"The files have {size:,} bytes together; the limit is {MAX_ATTACHMENT_BYTES:,}.")
    return [stored[id] for id in dict.fromkeys(ids)]


async def _attach(conn: Connection, command: RenderedCommand, rows: Sequence[DictRow]) -> None:
    if command.attachments:
        await files.give(conn, [row["id"] for row in rows], [attachment.id for attachment in command.attachments])


async def _raise_refused(conn: Connection, command: RenderedCommand, agent: DictRow) -> None:
    """Raise ContentError if this turn is why the agent got no command."""
    check_turn(command, [agent])
    if command.conversation in ("new", "latest"):
        return
    found = await conversations.get(conn, UUID(command.conversation))
    if found is not None and found["agent_id"] == agent["id"] and found["state"] == "forgotten":
        raise ContentError(
            "The CLI has forgotten this conversation. Begin a new one with its last answer: "
            f"onsembl conversations anew {command.conversation}"
        )
    if found is None or found["agent_id"] != agent["id"]:
        raise ContentError(f"The agent {agent['name']} has no conversation {command.conversation}.")


def check_turn(command: RenderedCommand, targets: Sequence[DictRow]) -> None:
    """Raise ContentError if the command is to be a particular turn, and the targets are several agents, or one that
    runs command lines; or if it goes further than one of them may."""
    named = command.conversation not in ("new", "latest")
    if named and len(targets) > 1:
        raise ContentError("A conversation belongs to one agent: several take `new` or `latest`.")
    mode = cast("PermissionMode | None", command.turn_settings.get("permission_mode"))
    for agent in targets:
        converses = AgentKind(agent["kind"]).converses
        if mode is not None and converses and is_laxer(mode, agent["permission_mode"]):
            limit = agent["permission_mode"]
            raise ContentError(f"The agent {agent['name']} goes no further than the permission mode {limit}.")
        if converses:
            check_rules(command.rules, agent)
            if command.attachments and not agent["takes_attachments"] and agent["connected_at"] is not None:
                raise ContentError(
                    f"The agent {agent['name']} gives its coding CLI no files: its version is older. Update it."
                )
    names = [agent["name"] for agent in targets if not AgentKind(agent["kind"]).converses]
    if names and (named or command.turn_settings):
        raise ContentError(f"An agent of the kind shell takes no settings of a turn: {', '.join(names)}.")


def check_rules(rules: ToolRules, agent: DictRow) -> None:
    """Raise ContentError if the rules allow more than the agent may, or its program does not hold a turn to rules."""
    beyond = rules.beyond(convert(agent["rules"], ToolRules), agent["permission_mode"])
    if beyond:
        raise ContentError(
            f"The agent {agent['name']} may not be allowed {', '.join(beyond)}. "
            "An admin can allow it by the agent's own rules."
        )
    check_takes_rules(rules, agent)


def check_takes_rules(rules: ToolRules, agent: DictRow) -> None:
    """Raise ContentError if there are rules, and the agent's program does not hold a turn to them."""
    if rules and not AgentKind(agent["kind"]).converses:
        raise ContentError(f"The agent {agent['name']} runs command lines, to which no rules apply.")
    if rules and not agent["takes_rules"] and agent["connected_at"] is not None:
        raise ContentError(
            f"The agent {agent['name']} does not hold its coding CLI to rules: its version is older, or has no rules "
            "for this kind of agent."
        )


async def _enabled_agent(conn: Connection, agent_id: AgentId) -> DictRow:
    """The enabled agent of this id. Raises AgentNotFoundError or NoTargetError."""
    agent = await agents.get(conn, agent_id)
    if agent is None:
        raise AgentNotFoundError("Agent not found.")
    if agent["disabled_at"] is not None:
        raise NoTargetError(f"The agent {agent['name']} is disabled.")
    return agent


async def _send_to_group(
    conn: Connection,
    command: RenderedCommand,
    agent_ids: Sequence[AgentId],
    target: Mapping[str, Any],
    actor: audit.Actor,
) -> DictRow:
    group = await command_groups.insert(
        conn, command.text, command.priority, target, actor.id, actor.name, command.preset, command.limits
    )
    await audit.write(
        conn,
        audit.Event(
            actor=actor,
            action="group.requested",
            target_kind="group",
            target_id=str(group["id"]),
            detail={
                "target": dict(target),
                "agents": len(agent_ids),
                "priority": command.priority,
                "preset": command.preset,
            },
        ),
    )
    rows = await command_groups.add_commands(
        conn, group, agent_ids, request_ids.current(), command.conversation, command.turn_settings
    )
    for agent_id in set(agent_ids) - {row["agent_id"] for row in rows}:
        await _raise_refused(conn, command, await _enabled_agent(conn, agent_id))
    await _attach(conn, command, rows)
    for row in rows:
        await audit.write(
            conn,
            audit.Event(
                actor=actor,
                action="command.requested",
                target_kind="command",
                target_id=str(row["id"]),
                detail=command.audit_detail(row["agent_id"]) | {"group_id": str(row["group_id"])},
            ),
        )
    return group
