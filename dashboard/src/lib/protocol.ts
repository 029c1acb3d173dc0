// Generated from protocol/ and api/http/models.py by `python -m onsembl.cli.server.generate_typescript`:
// change those instead.
// Byte offsets are numbers here: exact up to 2^53, nine petabytes of terminal.

/** Which coding CLI an agent runs. */
export const AGENT_KINDS = ["claude", "codex", "gemini", "shell"] as const;
export type AgentKind = (typeof AGENT_KINDS)[number];

/** How commands reach the CLI: one headless run each, or typed into its own full-screen program. */
export const AGENT_MODES = ["exec", "interactive"] as const;
export type AgentMode = (typeof AGENT_MODES)[number];

/** Whether an agent is connected, as written by the one API instance that holds its connection. */
export const AGENT_STATUSES = ["online", "offline"] as const;
export type AgentStatus = (typeof AGENT_STATUSES)[number];

/** How far a halt has come with one agent. `stopped` is the agent's word that no process is left. */
export const HALT_STATES = ["not_reached", "stopping", "stopped", "dying"] as const;
export type HaltState = (typeof HALT_STATES)[number];

/** What an operator may do: look, command, or everything. */
export const ROLES = ["viewer", "operator", "admin"] as const;
export type Role = (typeof ROLES)[number];

/** A command's life; final states never change. */
export const COMMAND_STATES = ["queued", "dispatched", "running", "succeeded", "failed", "cancelled", "timed_out", "lost"] as const;
export type CommandState = (typeof COMMAND_STATES)[number];

export const ACTIVE_STATES: ReadonlySet<CommandState> = new Set<CommandState>(["dispatched", "running"]);

export const FINAL_STATES: ReadonlySet<CommandState> = new Set<CommandState>(["succeeded", "failed", "cancelled", "timed_out", "lost"]);

/** Why the server closed an agent's or a terminal's socket. */
export const CloseCode = {
  NORMAL: 1000,
  GOING_AWAY: 1001,
  MESSAGE_TOO_BIG: 1009,
  INTERNAL_ERROR: 1011,
  BAD_MESSAGE: 4400,
  UNAUTHENTICATED: 4401,
  FORBIDDEN: 4403,
  NOT_FOUND: 4404,
  HELLO_TIMEOUT: 4408,
  SUPERSEDED: 4409,
  UNSUPPORTED_PROTOCOL: 4426,
  HEARTBEAT_LOST: 4428,
  RATE_LIMITED: 4429,
  STREAM_REJECTED: 4460,
  TOKEN_EXPIRED: 4461,
  REFRESH_REJECTED: 4462,
  REVOKED: 4463,
  TOKEN_REUSED: 4464,
} as const;

/** Codes after which coming back without a person's help is pointless. */
export const PERMANENT_CLOSE_CODES: ReadonlySet<number> = new Set<number>([CloseCode.BAD_MESSAGE, CloseCode.FORBIDDEN, CloseCode.NOT_FOUND, CloseCode.SUPERSEDED, CloseCode.UNSUPPORTED_PROTOCOL, CloseCode.REFRESH_REJECTED, CloseCode.REVOKED, CloseCode.TOKEN_REUSED]);

export const TERMINAL_SUBPROTOCOL = "onsembl.terminal.v1";

export type ViewerMessage = Attach | Resize | TakeControl | GrantControl | ReleaseControl | Keys | Token | Ping | Pong;

export type ServerToViewerMessage = Attached | Gap | StreamStarted | Resized | Controlled | KeysTaken | Ping | Pong;

/** The first message of a viewer: its access token and, on a return, the first byte it has not seen. */
export interface Attach {
  type: "attach";
  access_token: string;
  stream_id?: string | null;
  offset?: number | null;
  client_id?: string | null;
}

/** Give the pseudo-terminal this size. */
export interface Resize {
  type: "resize";
  columns: number;
  rows: number;
}

/** This page wants to type. `from_another`: also when somebody else does; else it waits its turn. */
export interface TakeControl {
  type: "take_control";
  client_id: string;
  from_another?: boolean;
}

/** Whoever types gives it to one that waits. */
export interface GrantControl {
  type: "grant_control";
  to: string;
}

/** This page types no more, or waits no more. */
export interface ReleaseControl {
  type: "release_control";
}

/** Type this, as a keyboard would, or interrupt the command in its CLI's own way. `seq` grows by one. */
export interface Keys {
  type: "keys";
  client_id: string;
  seq: number;
  text?: string;
  interrupt?: boolean;
}

/** A newer access token of the same operator, before the last one ends. */
export interface Token {
  type: "token";
  access_token: string;
}

/** Answer with `pong`. */
export interface Ping {
  type: "ping";
}

/** The answer to `ping`. */
export interface Pong {
  type: "pong";
}

/** An instruction for one agent. */
export interface NewCommand {
  text?: string | null;
  preset?: string | null;
  values?: Record<string, boolean | number | string>;
  priority?: number | null;
  limits?: CommandLimits;
}

/** Why, if the operator says. */
export interface CancelRequest {
  reason?: string | null;
}

/** A one-time token to enrol an agent whose name fits a glob pattern, for `expires_in` seconds. */
export interface NewEnrolmentToken {
  name_pattern?: string;
  expires_in?: number;
}

/**
 * Let it in, under another name if one is given. `replace`: as the agent of that name that there is, whose
 * credentials end.
 */
export interface DeviceDecision {
  name?: string | null;
  replace?: boolean;
}

/** Stop everything; why, if the operator says. */
export interface NewHalt {
  reason?: string | null;
}

/**
 * What is to change. `text`, `priority` and `limits` can be changed while the command waits; with `revision` only
 * if nobody has changed it since. `note` and `tags` can be changed always.
 */
export interface EditCommand {
  text?: string;
  /** 1 is first, 10 is last. */
  priority?: number;
  limits?: CommandLimits;
  note?: string;
  tags?: string[];
  revision?: number | null;
}

/** Where in its agent's line a waiting command goes: to an end, or beside another one, whose priority it takes. */
export interface MoveCommand {
  to: "after" | "before" | "first" | "last";
  other?: string | null;
}

/**
 * The agents that get a command: those with these names or ids, those with all of these labels, or all agents.
 * Exactly one field is given.
 */
export interface Target {
  agents?: string[] | null;
  labels?: string[] | null;
  all?: boolean;
}

/** One instruction for several agents. */
export interface NewGroup {
  text?: string | null;
  preset?: string | null;
  values?: Record<string, boolean | number | string>;
  priority?: number | null;
  limits?: CommandLimits;
  target: Target;
}

/** What is to come for whom, and when: once at a time, or again and again by a cron expression in a time zone. */
export interface NewSchedule {
  text?: string | null;
  preset?: string | null;
  values?: Record<string, boolean | number | string>;
  priority?: number | null;
  limits?: CommandLimits;
  name: string;
  target: Target;
  cron?: string | null;
  /** A name of the IANA's database, as Europe/Berlin. */
  time_zone?: string;
  at?: string | null;
}

/** The same, for a schedule that there is; with `revision` only if nobody has changed it since. */
export interface ChangedSchedule {
  text?: string | null;
  preset?: string | null;
  values?: Record<string, boolean | number | string>;
  priority?: number | null;
  limits?: CommandLimits;
  name: string;
  target: Target;
  cron?: string | null;
  /** A name of the IANA's database, as Europe/Berlin. */
  time_zone?: string;
  at?: string | null;
  revision?: number | null;
}

/**
 * All of a preset; with `name` it is renamed. With `revision` it is saved only if nobody has changed it since that
 * one; with 0 only if there is none of that name.
 */
export interface SavePreset {
  template: string;
  description?: string;
  variables?: Variable[];
  priority?: number | null;
  kind?: AgentKind | null;
  limits?: CommandLimits;
  name?: string | null;
  revision?: number | null;
}

/** A preset, kept or not, and values for it. */
export interface PreviewPreset {
  preset: Preset;
  values?: Record<string, boolean | number | string>;
}

/**
 * A template with its variables. `kind` is the only kind of agent it is for; `priority` and `limits` are what a
 * command gets that names none.
 */
export interface Preset {
  name: string;
  description?: string;
  template: string;
  variables?: Variable[];
  priority?: number | null;
  kind?: AgentKind | null;
  limits?: CommandLimits;
}

/**
 * What a command may take. None is no limit.
 *
 * `wall_seconds` counts from its start, `idle_seconds` from its last output. `tokens` are those of `Usage.tokens`;
 * they and `cost_usd` bind agents whose CLI tells of them.
 */
export interface CommandLimits {
  wall_seconds?: number | null;
  idle_seconds?: number | null;
  tokens?: number | null;
  cost_usd?: number | null;
}

/**
 * What follows starts at `offset` of the stream.
 *
 * `exact`: just where the viewer left off. `tail`: the viewer is new, the ring's tail follows. `gap`: bytes between
 * the viewer's place and `offset` have left the ring. `stream_id` is None while the agent has never been connected:
 * `stream_started` follows when it is.
 */
export interface Attached {
  type: "attached";
  stream_id: string | null;
  mode: "exact" | "gap" | "tail";
  offset: number;
  columns: number;
  rows: number;
  modes: string;
}

/** This viewer was too slow: `missing` bytes left the ring; what follows is from `offset` on, in these `modes`. */
export interface Gap {
  type: "gap";
  offset: number;
  missing: number;
  modes: string;
}

/** The agent began another terminal; what follows starts at `offset` of it. */
export interface StreamStarted {
  type: "stream_started";
  stream_id: string;
  offset: number;
  columns: number;
  rows: number;
}

/** The pseudo-terminal has this size from here on. */
export interface Resized {
  type: "resized";
  columns: number;
  rows: number;
}

/** Who types, and who waits to; to everyone who looks, after `attached` and whenever it changes. */
export interface Controlled {
  type: "controlled";
  controller: TerminalClient | null;
  waiting: TerminalClient[];
}

/**
 * The keys of this number were typed, or why they were not; either way they, and no others, are not to be sent
 * again.
 */
export interface KeysTaken {
  type: "keys_taken";
  client_id: string;
  seq: number;
  refused: "no_terminal" | "not_in_control" | "nothing_runs" | "offline" | "restarted" | "too_much" | null;
}

/** The operator whose access token the request presents. */
export interface Me {
  id: string;
  email: string;
  role: Role;
}

/** An enrolled agent: a row of `onsembl.agents`. */
export interface Agent {
  id: string;
  name: string;
  kind: AgentKind;
  mode: AgentMode;
  host: string;
  platform: string;
  version: string;
  created_at: string;
  disabled_at: string | null;
  status: AgentStatus;
  epoch: number;
  instance_id: string | null;
  connected_at: string | null;
  disconnected_at: string | null;
  stream_id: string | null;
  columns: number;
  rows: number;
  paused_at: string | null;
  paused_by_name: string | null;
  labels: string[];
  limits: CommandLimits;
}

/** Every agent, by name. */
export interface Agents {
  agents: Agent[];
}

/** A command: a row of `onsembl.commands`. */
export interface Command {
  id: string;
  seq: number;
  agent_id: string;
  text: string;
  /** 1 is first, 10 is last. */
  priority: number;
  state: CommandState;
  requested_by: string | null;
  requested_by_name: string;
  created_at: string;
  dispatched_at: string | null;
  started_at: string | null;
  ended_at: string | null;
  cancel_requested_at: string | null;
  cancel_requested_by: string | null;
  cancel_reason: string | null;
  cancel_step: CancelStepAnswer | null;
  exit_code: number | null;
  signal: number | null;
  error: string | null;
  stream_id: string | null;
  output_start: number | null;
  output_end: number | null;
  usage: Usage | null;
  job_id: number | null;
  delivery_attempts: number;
  group_id: string | null;
  preset: string | null;
  position: number | null;
  revision: number;
  note: string;
  tags: string[];
  request_id: string | null;
  limits: CommandLimits;
  limit_passed: "cost_usd" | "idle_seconds" | "tokens" | "wall_seconds" | null;
}

/** A page of commands, newest first. `next_before` asks for the next page; None on the last. */
export interface Commands {
  commands: Command[];
  next_before: number | null;
}

/** How many wait before it, and in how many seconds it will probably start; null when nobody can tell. */
export interface QueuedCommand {
  command_id: string;
  ahead: number;
  starts_in: number | null;
}

/** An agent's line in its order. `typical_seconds` is the median of how long its latest commands ran. */
export interface AgentQueue {
  agent_id: string;
  typical_seconds: number | null;
  waiting: QueuedCommand[];
}

/** One request for several agents; `counts` has how many of its commands are in which state. */
export interface GroupSummary {
  id: string;
  seq: number;
  text: string;
  preset: string | null;
  /** 1 is first, 10 is last. */
  priority: number;
  limits: CommandLimits;
  target: Target;
  requested_by: string | null;
  requested_by_name: string;
  created_at: string;
  counts: Record<string, number>;
}

/** The same with its commands, one an agent. */
export interface Group {
  id: string;
  seq: number;
  text: string;
  preset: string | null;
  /** 1 is first, 10 is last. */
  priority: number;
  limits: CommandLimits;
  target: Target;
  requested_by: string | null;
  requested_by_name: string;
  created_at: string;
  counts: Record<string, number>;
  commands: Command[];
}

/** A page of groups, newest first. `next_before` asks for the next page. */
export interface Groups {
  groups: GroupSummary[];
  next_before: number | null;
}

/** A tag, and how many of the newest commands have it. */
export interface TagCount {
  tag: string;
  count: number;
}

/** Tags in use, the most used first. */
export interface Tags {
  tags: TagCount[];
}

/**
 * One firing: the command or the group that it made, and how many of its commands are in which state; or why it
 * could make none. `skipped` names the agents that it passed over, as the command of an earlier time still waited
 * there.
 */
export interface ScheduleRun {
  due_at: string;
  ran_at: string;
  command_id: string | null;
  group_id: string | null;
  error: string | null;
  skipped: string[];
  counts: Record<string, number>;
}

/**
 * A schedule: a row of `onsembl.schedules`, with its last firing. `next_at` is null while it is paused, and when
 * nothing more is to come.
 */
export interface ScheduleAnswer {
  id: string;
  name: string;
  target: Target;
  text: string | null;
  preset: string | null;
  values: Record<string, boolean | number | string>;
  priority: number | null;
  limits: CommandLimits;
  cron: string | null;
  time_zone: string;
  at: string | null;
  next_at: string | null;
  paused_at: string | null;
  paused_by_name: string | null;
  revision: number;
  created_at: string;
  updated_at: string;
  updated_by: string;
  updated_by_name: string;
  last: ScheduleRun | null;
}

/** Every schedule, by name. */
export interface Schedules {
  schedules: ScheduleAnswer[];
}

/** The latest firings of a schedule, newest first. */
export interface ScheduleRuns {
  runs: ScheduleRun[];
}

/** The next times of a rule; without one, why there are none. */
export interface NextTimes {
  times: string[];
  problem: string | null;
}

/**
 * What has to be filled in. `text` and `path` are one line, `long_text` may be many; `choice` is one of
 * `choices`.
 */
export interface Variable {
  name: string;
  type: "boolean" | "choice" | "integer" | "long_text" | "path" | "text";
  help: string;
  required: boolean;
  default: boolean | number | string | null;
  choices: string[];
}

/** A preset. One that ships cannot be changed or deleted, has the revision 0 and was saved by nobody. */
export interface PresetAnswer {
  name: string;
  description: string;
  template: string;
  variables: Variable[];
  priority: number | null;
  kind: AgentKind | null;
  limits: CommandLimits;
  shipped: boolean;
  revision: number;
  updated_at: string | null;
  updated_by_name: string;
}

/** Those that ship, then the others by name. */
export interface Presets {
  presets: PresetAnswer[];
}

/** The text that would be sent; without one, why not: what is wrong with the preset, or with which values. */
export interface PreviewedPreset {
  text: string | null;
  problem: string | null;
  fields: Record<string, string>;
}

/** The token, shown this once. */
export interface EnrolmentToken {
  id: string;
  token: string;
  name_pattern: string;
  expires_at: string;
}

/** A one-time token that may still be used, and who has made it. */
export interface UnusedEnrolmentToken {
  id: string;
  name_pattern: string;
  created_by_name: string;
  created_at: string;
  expires_at: string;
}

/** Newest first. */
export interface UnusedEnrolmentTokens {
  tokens: UnusedEnrolmentToken[];
}

/** A person who may sign in; `role` is null for one who then sees nothing. */
export interface OperatorAnswer {
  id: string;
  email: string;
  role: Role | null;
  disabled: boolean;
  created_at: string;
  last_sign_in_at: string | null;
}

/** Everyone who may sign in, by address. */
export interface Operators {
  operators: OperatorAnswer[];
}

/** What an operator should look at: a row of `onsembl.alerts`. */
export interface AlertAnswer {
  id: number;
  at: string;
  kind: string;
  agent_id: string | null;
  text: string;
  acknowledged_at: string | null;
  acknowledged_by: string | null;
}

/** Those that wait first, then the latest others. */
export interface Alerts {
  alerts: AlertAnswer[];
}

/**
 * Times that were measured, in seconds: `counts[i]` of them were `bounds[i]` at most, and the last count is of all.
 * They only grow; two readings tell of the time between.
 */
export interface Distribution {
  bounds: number[];
  counts: number[];
}

/** Connections to the database: how many there are, how many of them are in use, and who waits for one. */
export interface PoolStatistics {
  name: string;
  size: number;
  in_use: number;
  waiting: number;
}

/** Commands of one priority that wait; `oldest` is for how many seconds the oldest of them has. */
export interface QueueStatistics {
  /** 1 is first, 10 is last. */
  priority: number;
  depth: number;
  oldest: number;
}

/** Commands of all instances that are not over. */
export interface UnfinishedCommands {
  queued: number;
  dispatched: number;
  running: number;
  queue: QueueStatistics[];
}

/**
 * One instance's figures, as `/metrics` has them, but for `commands`, which are everybody's. Those that say so only
 * grow; a rate is the difference of two readings of the same instance.
 */
export interface Statistics {
  instance_id: string;
  /** When they were read, in seconds since 1970. */
  at: number;
  agents: number;
  viewers: number;
  /** null where Supabase is hosted. */
  realtime_subscribers: number | null;
  /** Bytes that agents' terminals put out. Only grows. */
  terminal_bytes: number;
  /** Frames of them that viewers were given. Only grows. */
  deliveries: number;
  archive_lag_bytes: number;
  relay: Distribution;
  loop_lag: Distribution;
  /** By state. They only grow. */
  commands_ended: Record<string, number>;
  /** null while the database does not answer. */
  commands: UnfinishedCommands | null;
  pools: PoolStatistics[];
  /** Of the process; null where the system does not say. */
  memory_bytes: number | null;
  /** Of the process. Only grows. */
  cpu_seconds: number | null;
}

/**
 * Where the audit log's chain of hashes stands: the last link's number and hash, since when, and how many rows are
 * not in it yet.
 */
export interface AuditChain {
  seq: number;
  hash: string;
  at: string;
  unsealed: number;
}

/** A row of the audit log. */
export interface AuditEvent {
  id: number;
  at: string;
  actor_kind: string;
  actor_id: string | null;
  actor_name: string;
  action: string;
  target_kind: string;
  target_id: string;
  address: string;
  outcome: string;
  detail: Record<string, unknown>;
}

/** A page of the audit log; `next_before` asks for the next. */
export interface AuditPage {
  events: AuditEvent[];
  next_before: number | null;
}

/** An agent that asks to be let in: a row of `onsembl.device_requests`. */
export interface DeviceRequest {
  id: string;
  user_code: string;
  name: string;
  kind: AgentKind;
  mode: AgentMode;
  host: string;
  platform: string;
  address: string;
  created_at: string;
  expires_at: string;
  state: "approved" | "refused" | "waiting";
  decided_at: string | null;
  decided_by: string | null;
  agent_id: string | null;
}

/** Those that nobody has decided on. */
export interface DeviceRequests {
  requests: DeviceRequest[];
}

/**
 * An error (RFC 9457). The fields after `detail` are present where they apply: `fields` names the invalid variables
 * of a preset, `state` is the state of the command, `revision` the current revision, `replaceable` says that an agent
 * of this name may be replaced, and `request_id` finds the error in the server's log.
 */
export interface ProblemDetails {
  type: string;
  title: string;
  status: number;
  detail: string;
  fields?: Record<string, string>;
  state?: CommandState;
  revision?: number;
  replaceable?: boolean;
  request_id?: string | null;
}

/** What a run of a coding CLI used, as the CLI reported it; tokens counted once a message id. */
export interface Usage {
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  cache_write_tokens: number;
  cost_usd: number | null;
  turns: number | null;
  model: string | null;
}

/**
 * The latest step of the escalation that stops a command. `processes_left` of the command were alive just after the
 * step. `pids` are the processes that survived the last step. `limit` is present if the command is stopped because it
 * exceeded that limit.
 */
export interface CancelStepAnswer {
  step: "failed" | "interrupt" | "sigint" | "sigkill" | "sigterm" | "sweep";
  at: string;
  processes_left: number;
  pids: number[];
  limit?: "cost_usd" | "idle_seconds" | "tokens" | "wall_seconds";
}

/**
 * One terminal's recording. Bytes `start` to `end` (exclusive) are kept; `stored` is what they take on disk.
 *
 * `began_at` and `last_at` are null while nothing is kept.
 */
export interface Stream {
  id: string;
  agent_id: string;
  agent_name: string;
  created_at: string;
  start: number;
  end: number;
  began_at: string | null;
  last_at: string | null;
  stored: number;
  columns: number;
  rows: number;
  commands: number;
}

/** A page of an agent's streams, newest first; `next_before` asks for the next. */
export interface Streams {
  streams: Stream[];
  next_before: string | null;
}

/** How much came within one of the equal parts of the recording's time; parts in which nothing came are left out. */
export interface Activity {
  part: number;
  at: string;
  start: number;
  bytes: number;
}

/** A command that ran in the stream, and where its output is; of its text only how it begins. */
export interface RecordedCommand {
  id: string;
  text: string;
  state: CommandState;
  output_start: number;
  output_end: number | null;
  started_at: string | null;
  ended_at: string | null;
}

/** A page of a stream's commands, in the order of their output; `next_cursor` asks for the next. */
export interface RecordedCommands {
  commands: RecordedCommand[];
  next_cursor: string | null;
}

/** From the byte at `start` on the terminal has this size. */
export interface TerminalSize {
  start: number;
  at: string;
  columns: number;
  rows: number;
}

/** What a player draws beside the terminal: `parts` is how many the time is divided in. */
export interface Timeline {
  stream: Stream;
  parts: number;
  activity: Activity[];
  sizes: TerminalSize[];
}

/** What a terminal that starts is written to have the modes of a place in a recording. */
export interface TerminalModesAnswer {
  modes: string;
}

/** Bytes of an agent's recordings, as compressed. */
export interface AgentUsage {
  agent_id: string;
  stored: number;
}

/**
 * What recordings take; agents of which nothing is kept are left out.
 *
 * `archive` and `search` are bytes on disk with all indexes: of the recordings, and of the text that is searched.
 */
export interface ArchiveUsage {
  agents: AgentUsage[];
  archive: number;
  search: number;
}

/** A part of a line; `match` says that it is what was searched for. */
export interface Excerpt {
  text: string;
  match: boolean;
}

/** A line of output, or a command. `offset` is where in the stream the line, or the command's output, begins. */
export interface SearchHit {
  agent_id: string;
  at: string;
  stream_id: string | null;
  offset: number | null;
  command_id: string | null;
  state: CommandState | null;
  excerpt: Excerpt[];
}

/** A page of what was found, newest first; `next_cursor` asks for the next. */
export interface SearchHits {
  hits: SearchHit[];
  next_cursor: string | null;
}

/** A page that types, or waits to. */
export interface TerminalClient {
  client_id: string;
  name: string;
}

/**
 * How far a halt has come with one agent: a row of `onsembl.halt_agents`, and the agent's name.
 *
 * `stopped`: the agent has proven that no process of any command is left. `not_reached`: it is offline, and is
 * stopped when it returns. `dying`: `pids` would not die, and are killed again until they do.
 */
export interface HaltedAgent {
  id: string;
  halt_id: string;
  agent_id: string;
  name: string;
  state: HaltState;
  step: string | null;
  processes_left: number;
  pids: number[];
  at: string;
}

/** An emergency stop, in force until it is lifted. Agents have `seconds` for their whole ladder. */
export interface HaltAnswer {
  id: string;
  number: number;
  at: string;
  requested_by: string | null;
  requested_by_name: string;
  reason: string | null;
  seconds: number;
  lifted_at: string | null;
  lifted_by: string | null;
  lifted_by_name: string | null;
}

/** The halt in force, null when the fleet works; and every agent that it concerns, by name. */
export interface HaltStatus {
  halt: HaltAnswer | null;
  agents: HaltedAgent[];
}
