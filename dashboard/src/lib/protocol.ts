// Generated from protocol/ by `python -m onsembl.cli.server.generate_typescript`: change the Python types instead.
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

/** Codes after which the client does not reconnect until a person asks for it. */
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

/** A page that types, or waits to. */
export interface TerminalClient {
  client_id: string;
  name: string;
}
