// Generated from protocol/ by `python -m onsembl.cli.server.generate_typescript`: change the Python types instead.
// Byte offsets are numbers here: exact up to 2^53, nine petabytes of terminal.

/** The coding CLI that an agent runs. */
export const AGENT_KINDS = ["claude", "codex", "gemini", "shell"] as const;
export type AgentKind = (typeof AGENT_KINDS)[number];

/** How an agent passes commands to the CLI: a headless run for each, or typed into its full-screen program. */
export const AGENT_MODES = ["exec", "interactive"] as const;
export type AgentMode = (typeof AGENT_MODES)[number];

/** Whether an agent is connected, as written by the one API instance that holds its connection. */
export const AGENT_STATUSES = ["online", "offline"] as const;
export type AgentStatus = (typeof AGENT_STATUSES)[number];

/** The progress of a halt at one agent. `stopped` means that the agent has confirmed that no process is left. */
export const HALT_STATES = ["not_reached", "stopping", "stopped", "dying"] as const;
export type HaltState = (typeof HALT_STATES)[number];

/** An operator's role: a viewer looks, an operator also sends commands, an admin may do everything. */
export const ROLES = ["viewer", "operator", "admin"] as const;
export type Role = (typeof ROLES)[number];

/** The state of a command; final states never change. */
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

/** Codes after which the client does not reconnect until a person asks for it. */
export const PERMANENT_CLOSE_CODES: ReadonlySet<number> = new Set<number>([CloseCode.BAD_MESSAGE, CloseCode.FORBIDDEN, CloseCode.NOT_FOUND, CloseCode.SUPERSEDED, CloseCode.UNSUPPORTED_PROTOCOL, CloseCode.REFRESH_REJECTED, CloseCode.REVOKED, CloseCode.TOKEN_REUSED]);

export const TERMINAL_SUBPROTOCOL = "onsembl.terminal.v1";

export type ViewerMessage = Attach | Resize | TakeControl | GrantControl | ReleaseControl | Keys | Token | Ping | Pong;

export type ServerToViewerMessage = Attached | Gap | StreamStarted | Resized | Controlled | KeysTaken | Ping | Pong;

/** The first message of a viewer: its access token and, after a reconnect, the first byte that it lacks. */
export interface Attach {
  type: "attach";
  access_token: string;
  stream_id?: string | null;
  offset?: number | null;
  client_id?: string | null;
}

/** Set the pseudo-terminal's size. */
export interface Resize {
  type: "resize";
  columns: number;
  rows: number;
}

/** Request control for this page: wait for it, or take it `from_another` page at once. */
export interface TakeControl {
  type: "take_control";
  client_id: string;
  from_another?: boolean;
}

/** The controller gives control to the page `to`, which waits for it. */
export interface GrantControl {
  type: "grant_control";
  to: string;
}

/** Give up control, or stop waiting for it. */
export interface ReleaseControl {
  type: "release_control";
}

/** Type `text`, or interrupt the command in its CLI's own way. `seq` grows by one with each message of a page. */
export interface Keys {
  type: "keys";
  client_id: string;
  seq: number;
  text?: string;
  interrupt?: boolean;
}

/** A newer access token of the same operator, before the last one expires. */
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

/**
 * The answer to `attach`: the following bytes start at `offset` of the stream.
 *
 * `exact`: they start where the viewer left off. `tail`: the viewer is new, and gets the ring's tail. `gap`: bytes
 * between the viewer's last one and `offset` have left the ring. `stream_id` is None while the agent has never been
 * connected; `stream_started` follows when it connects.
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

/** This viewer was too slow: `missing` bytes left the ring. The next bytes start at `offset`, in these `modes`. */
export interface Gap {
  type: "gap";
  offset: number;
  missing: number;
  modes: string;
}

/** The agent began a new stream; the following bytes start at `offset` of it. */
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

/** Who has control and who waits for it: sent to every viewer, after `attached` and at each change. */
export interface Controlled {
  type: "controlled";
  controller: TerminalClient | null;
  waiting: TerminalClient[];
}

/** The keys with this number were typed, or rejected for the reason `refused`; the page must not send them again. */
export interface KeysTaken {
  type: "keys_taken";
  client_id: string;
  seq: number;
  refused: "line_too_long" | "no_terminal" | "not_in_control" | "nothing_runs" | "offline" | "restarted" | "too_much" | null;
}

/** A page that has control of a terminal, or waits for it. */
export interface TerminalClient {
  client_id: string;
  name: string;
}
