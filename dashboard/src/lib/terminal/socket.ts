import { ApiError, type Tokens } from "../api.ts";
import { Backoff } from "../backoff.ts";
import {
  CloseCode,
  PERMANENT_CLOSE_CODES,
  TERMINAL_SUBPROTOCOL,
  type Attached,
  type Controlled,
  type Gap,
  type GrantControl,
  type Keys,
  type KeysTaken,
  type ReleaseControl,
  type Resized,
  type ServerToViewerMessage,
  type StreamStarted,
  type TakeControl,
  type Times,
  type ViewerMessage,
} from "../protocol.ts";
import type { Place } from "./flow.ts";
import { Typist } from "./typist.ts";

/** The state of the connection to an agent's terminal. */
export type LinkStatus =
  | { name: "connecting" }
  | { name: "attached" }
  | { name: "waiting"; why: string }
  | { name: "paused" }
  | { name: "stopped"; why: string };

export interface TerminalEvents {
  status(status: LinkStatus): void;
  attached(message: Attached): void;
  /** Bytes as they came; `after` is the place of the next one. */
  bytes(data: Uint8Array, after: Place): void;
  gap(message: Gap, after: Place): void;
  started(message: StreamStarted): void;
  resized(message: Resized): void;
  /** The times of bytes that come next. */
  times(message: Times): void;
  controlled(message: Controlled): void;
  taken(message: KeysTaken): void;
}

export interface SocketOptions {
  url: string;
  tokens: Tokens;
  events: TerminalEvents;
  /** Where the bytes begin; if it is missing, with the tail that the server has in memory. */
  place?: Place;
  backoff?: Backoff;
  open?: (url: string, protocol: string) => WebSocket;
}

/** Without a frame for this time, the page sends a ping. */
const SILENCE_MS = 40_000;
/** Without an answer to the ping for this time, the connection counts as lost. */
const ANSWER_MS = 10_000;

/**
 * The viewer's side of `/v1/agents/{id}/terminal`: attaches, counts bytes, and reconnects at the byte it had reached.
 *
 * After a permanent close code it does not reconnect until `retry` is called. After the first close code about the token
 * it reconnects at once with a new token; after one that says that the agent moves, at once.
 */
export class TerminalSocket {
  readonly typist = new Typist();
  readonly #options: SocketOptions;
  readonly #backoff: Backoff;
  #socket: WebSocket | null = null;
  #place: Place | null = null;
  #attached = false;
  #renewNext = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watch: ReturnType<typeof setTimeout> | undefined;
  #state: "running" | "paused" | "stopped" | "closed" = "running";

  constructor(options: SocketOptions) {
    this.#options = options;
    this.#backoff = options.backoff ?? new Backoff();
    this.#place = options.place ?? null;
    void this.#connect();
  }

  /** Sends the window's size to the server. */
  resize(columns: number, rows: number): void {
    if (this.#attached) this.#send({ type: "resize", columns, rows });
  }

  /** Asks for control, grants it to another window, or releases it. */
  control(message: TakeControl | GrantControl | ReleaseControl): void {
    if (this.#attached) this.#send(message);
  }

  /** Types a text. It is sent again after a reconnect until the agent has answered, and is typed only once. */
  type(text: string): void {
    this.#sendKeys(this.typist.type(text));
  }

  /** Interrupts the running command. */
  interrupt(): void {
    this.#sendKeys([this.typist.interrupt()]);
  }

  /** Sends a refreshed access token to the server, before the old one expires. */
  token(accessToken: string): void {
    if (this.#attached) this.#send({ type: "token", access_token: accessToken });
  }

  /** Leaves the stream until `resume`. */
  pause(): void {
    if (this.#state !== "running") return;
    this.#state = "paused";
    this.#drop();
    this.#options.events.status({ name: "paused" });
  }

  /** Reconnects after `pause`, at the first byte that was not taken. */
  resume(place: Place): void {
    if (this.#state !== "paused") return;
    this.#state = "running";
    this.#place = place;
    void this.#connect();
  }

  /** Connects now: the person asks for it, or the network is back. */
  retry(): void {
    if (this.#state === "closed" || this.#state === "paused" || this.#socket !== null) return;
    this.#state = "running";
    clearTimeout(this.#timer);
    void this.#connect();
  }

  close(): void {
    this.#state = "closed";
    this.#drop();
  }

  async #connect(): Promise<void> {
    clearTimeout(this.#timer);
    this.#options.events.status({ name: "connecting" });
    const { tokens } = this.#options;
    const renew = this.#renewNext;
    this.#renewNext = false;
    let token: string | null;
    try {
      token = await (renew ? tokens.renewed() : tokens.current());
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (this.#state === "running") this.#reconnectLater(error.message);
      return;
    }
    if (this.#state !== "running" || this.#socket !== null) return;
    if (token === null) {
      this.#stop("You are not signed in.");
      return;
    }
    const open = this.#options.open ?? ((url, protocol) => new WebSocket(url, protocol));
    const socket = open(this.#options.url, TERMINAL_SUBPROTOCOL);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    const accessToken = token;
    socket.onopen = () => {
      const place = this.#place?.streamId ? { stream_id: this.#place.streamId, offset: this.#place.offset } : {};
      this.#send({ type: "attach", access_token: accessToken, client_id: this.typist.clientId, times: true, ...place });
      this.#heard();
    };
    socket.onmessage = (event: MessageEvent<ArrayBuffer | string>) => {
      if (socket !== this.#socket) return;
      this.#heard();
      if (typeof event.data === "string") this.#take(JSON.parse(event.data) as ServerToViewerMessage);
      else this.#takeBytes(new Uint8Array(event.data));
    };
    socket.onclose = (event) => {
      if (socket === this.#socket) this.#lost(event.code, event.reason);
    };
  }

  #takeBytes(data: Uint8Array): void {
    if (this.#place === null) return;
    this.#place = { streamId: this.#place.streamId, offset: this.#place.offset + data.byteLength };
    this.#options.events.bytes(data, this.#place);
  }

  #take(message: ServerToViewerMessage): void {
    const { events } = this.#options;
    switch (message.type) {
      case "attached":
        this.#attached = true;
        this.#backoff.reset();
        this.#place = { streamId: message.stream_id, offset: message.offset };
        events.status({ name: "attached" });
        events.attached(message);
        this.#sendKeys(this.typist.unanswered);
        return;
      case "gap":
        this.#place = { streamId: this.#place?.streamId ?? null, offset: message.offset };
        events.gap(message, this.#place);
        return;
      case "stream_started":
        this.#place = { streamId: message.stream_id, offset: message.offset };
        events.started(message);
        return;
      case "resized":
        events.resized(message);
        return;
      case "times":
        events.times(message);
        return;
      case "controlled":
        events.controlled(message);
        return;
      case "keys_taken":
        this.#sendKeys(this.typist.answered(message));
        events.taken(message);
        return;
      case "ping":
        this.#send({ type: "pong" });
        return;
      case "pong":
        return;
    }
  }

  #lost(code: number, reason: string): void {
    const hadAttached = this.#attached;
    this.#drop();
    if (PERMANENT_CLOSE_CODES.has(code)) {
      this.#stop(reason || `closed with code ${code}`);
      return;
    }
    this.#renewNext = code === CloseCode.TOKEN_EXPIRED || code === CloseCode.UNAUTHENTICATED;
    const moves = code === CloseCode.ELSEWHERE || code === CloseCode.DRAINING;
    if ((this.#renewNext || moves) && hadAttached) void this.#connect();
    else this.#reconnectLater(reason || reasonOf(code));
  }

  #reconnectLater(why: string): void {
    clearTimeout(this.#timer);
    this.#options.events.status({ name: "waiting", why: why.replace(/\.$/, "") });
    this.#timer = setTimeout(() => void this.#connect(), this.#backoff.next());
  }

  #stop(why: string): void {
    this.#state = "stopped";
    this.#options.events.status({ name: "stopped", why });
  }

  #drop(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#watch);
    const socket = this.#socket;
    this.#socket = null;
    this.#attached = false;
    socket?.close();
  }

  /** Moves the deadline for the next frame, after one has arrived. */
  #heard(): void {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => {
      this.#send({ type: "ping" });
      this.#watch = setTimeout(() => {
        if (this.#socket !== null) this.#lost(CloseCode.HEARTBEAT_LOST, "the server is not responding");
      }, ANSWER_MS);
    }, SILENCE_MS);
  }

  /** Sends keyboard messages; while the socket is not attached, they wait for `attached`. */
  #sendKeys(messages: readonly Keys[]): void {
    for (const keys of messages) if (this.#attached) this.#send(keys);
  }

  #send(message: ViewerMessage): void {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message));
  }
}

function reasonOf(code: number): string {
  if (code === CloseCode.ELSEWHERE) return "the agent is connected to another instance";
  if (code === CloseCode.DRAINING) return "the instance is about to stop";
  return code === CloseCode.GOING_AWAY ? "the server restarts" : "the connection was lost";
}
