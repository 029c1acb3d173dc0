import type { RealtimeChannel, RealtimePostgresChangesPayload } from "@supabase/realtime-js";

import { Backoff } from "./backoff.ts";
import type { Signals } from "./live.ts";
import { PUBLISHED_TABLES, type PublishedTable } from "./protocol.ts";
import type { Progress } from "./last-lines.svelte.ts";
import type { RealtimeConnection } from "./realtime.ts";
import type { Agent, Command } from "./rest.ts";

/** A change of a row. The row of a deletion is null; `whole` is false if the server had to leave values out. */
export type Change =
  | { table: "agents"; id: string; row: Agent | null }
  | { table: "commands"; id: string; row: Partial<Command> | null; whole: boolean };

/** Tables whose changes only tell the page to read again by REST. */
export type RereadTable = Exclude<PublishedTable, RowTable | "turn_progress" | UnshownTable>;
/** Tables whose changes the page shows as they come. */
type RowTable = "agents" | "commands";
/** Published tables that no page shows. */
type UnshownTable = "conversations";

export interface SubscriptionEvents {
  change(change: Change): void;
  /** A row has changed; `record` are its values, null after a deletion. */
  reread(table: RereadTable, record: Record<string, unknown> | null): void;
  /** A command has come further. */
  progress(progress: Progress): void;
  /** Changes flow from now on: earlier ones have to be read. Called again after each reconnect. */
  flowing(): void;
  signal(change: Partial<Signals>): void;
}

type Payload = RealtimePostgresChangesPayload<Record<string, unknown>>;

/** How long a joined channel may take until changes flow, in ms. */
const FLOW_MS = 15_000;

/**
 * The page's subscription to the fleet's rows.
 *
 * `connect` is asked for the connection until it gives one; its `onHeartbeat` takes the result of each heartbeat.
 *
 * After a lost socket the client joins the channel again. It does not when the server has closed the channel or has
 * reported that changes do not flow: then a new channel is opened, with growing delays.
 */
export class Subscription {
  readonly #connect: (onHeartbeat: (status: string) => void) => Promise<RealtimeConnection>;
  readonly #events: SubscriptionEvents;
  readonly #backoff = new Backoff(1000, 20_000);
  #connection: RealtimeConnection | null = null;
  #channel: RealtimeChannel | null = null;
  #flowTimer: ReturnType<typeof setTimeout> | undefined;
  #reopenTimer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;
  #opened = 0;

  constructor(
    connect: (onHeartbeat: (status: string) => void) => Promise<RealtimeConnection>,
    events: SubscriptionEvents,
  ) {
    this.#connect = connect;
    this.#events = events;
    addEventListener("online", this.#networkChanged);
    addEventListener("offline", this.#networkChanged);
    document.addEventListener("visibilitychange", this.#checkSocket);
    void this.#open();
  }

  close(): void {
    this.#closed = true;
    removeEventListener("online", this.#networkChanged);
    removeEventListener("offline", this.#networkChanged);
    document.removeEventListener("visibilitychange", this.#checkSocket);
    this.#discard();
    this.#connection?.close();
  }

  readonly #heartbeat = (status: string): void => {
    if (this.#closed) return;
    if (status === "timeout" || status === "error") this.#events.signal({ socket: false });
    else this.#checkSocket();
  };

  get #connected(): boolean {
    return this.#connection?.client.isConnected() ?? false;
  }

  readonly #networkChanged = (): void => {
    this.#events.signal({ online: navigator.onLine });
    this.#checkSocket();
    // The network is back and the socket seems open: open a new channel to find out whether the server is still there.
    if (navigator.onLine && this.#connected) this.#reopen(0);
  };

  readonly #checkSocket = (): void => {
    if (!this.#connected) this.#events.signal({ socket: false });
  };

  async #open(): Promise<void> {
    try {
      this.#connection ??= await this.#connect(this.#heartbeat);
    } catch {
      this.#reopen(this.#backoff.next()); // the code of the client could not be loaded
      return;
    }
    const { client } = this.#connection;
    if (!this.#closed) await client.setAuth();
    if (this.#closed) {
      this.#connection.close();
      return;
    }
    // Each channel gets a name of its own: a channel that is being left keeps its name until the server has answered.
    // It is private: a policy of the server decides who joins, and no client can send into it.
    const channel = client.channel(`onsembl-fleet-${++this.#opened}`, { config: { private: true } });
    this.#channel = channel;
    for (const table of PUBLISHED_TABLES) {
      if (isUnshown(table)) continue;
      channel.on("postgres_changes", { event: "*", schema: "onsembl", table }, (payload) => {
        if (channel === this.#channel) this.#changed(table, payload);
      });
    }
    channel.on("system", {}, (payload: { extension?: string; status?: string }) => {
      if (channel === this.#channel && payload.extension === "postgres_changes") this.#flow(payload.status === "ok");
    });
    channel.subscribe((status) => {
      if (channel === this.#channel) this.#status(status);
    });
  }

  #changed(table: Exclude<PublishedTable, UnshownTable>, payload: Payload): void {
    if (table === "agents" || table === "commands") {
      const change = changeOf(table, payload);
      if (change !== null) this.#events.change(change);
    } else if (table === "turn_progress") {
      const { command_id: id, agent_id, kind, name, title } = payload.new as Partial<Progress>;
      if (id !== undefined && agent_id !== undefined) {
        this.#events.progress({ command_id: id, agent_id, kind: kind ?? "", name: name ?? "", title: title ?? "" });
      }
    } else {
      this.#events.reread(table, payload.eventType === "DELETE" ? null : payload.new);
    }
  }

  #status(status: string): void {
    clearTimeout(this.#flowTimer);
    if (status === "SUBSCRIBED") {
      this.#events.signal({ online: true, socket: this.#connected, joined: true, flowing: false });
      this.#flowTimer = setTimeout(() => this.#reopen(this.#backoff.next()), FLOW_MS);
      return;
    }
    this.#events.signal({ socket: this.#connected, joined: false });
    if (status === "CLOSED") this.#reopen(this.#backoff.next());
  }

  #flow(flows: boolean): void {
    clearTimeout(this.#flowTimer);
    if (flows) {
      this.#backoff.reset();
      this.#events.signal({ flowing: true });
      this.#events.flowing();
    } else {
      this.#events.signal({ flowing: false });
      this.#reopen(1000 + this.#backoff.next());
    }
  }

  #reopen(delay: number): void {
    this.#discard();
    this.#events.signal({ joined: false });
    if (!this.#closed) this.#reopenTimer = setTimeout(() => void this.#open(), delay);
  }

  #discard(): void {
    clearTimeout(this.#flowTimer);
    clearTimeout(this.#reopenTimer);
    const channel = this.#channel;
    this.#channel = null;
    if (channel !== null) void this.#connection?.client.removeChannel(channel);
  }
}

function isUnshown(table: PublishedTable): table is UnshownTable {
  return table === "conversations";
}

function changeOf(table: RowTable, payload: Payload): Change | null {
  if (payload.eventType === "DELETE") {
    const id = payload.old["id"];
    if (typeof id !== "string") return null;
    return table === "agents" ? { table, id, row: null } : { table, id, row: null, whole: true };
  }
  const id = payload.new["id"];
  if (typeof id !== "string") return null;
  if (table === "agents") return { table, id, row: payload.new as unknown as Agent };
  const errors: unknown = payload.errors;
  return { table, id, row: payload.new as Partial<Command>, whole: !Array.isArray(errors) || errors.length === 0 };
}
