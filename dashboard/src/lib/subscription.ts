import type { RealtimeChannel, RealtimePostgresChangesPayload } from "@supabase/supabase-js";

import { Backoff } from "./backoff.ts";
import type { Signals } from "./live.ts";
import type { Agent, Command } from "./protocol.ts";
import type { Supabase } from "./session.ts";

/** A change of a row. A deleted row is named by its id; `whole` is false when the server had to leave values out. */
export type Change =
  | { table: "agents"; id: string; row: Agent | null }
  | { table: "commands"; id: string; row: Partial<Command> | null; whole: boolean };

/** Tables of which the page only hears that something has changed: it then asks the API, as far as it may. */
export const NOTICED = ["alerts", "device_requests", "halts", "halt_agents", "schedules"] as const;
export type Noticed = (typeof NOTICED)[number];

export interface SubscriptionEvents {
  change(change: Change): void;
  noticed(table: Noticed): void;
  /** Changes flow from now on: what happened before has to be read. Comes again after each reconnect. */
  flowing(): void;
  signal(change: Partial<Signals>): void;
}

/** How long a joined channel may take to say that changes flow. */
const FLOW_MS = 15_000;

/**
 * The page's subscription to the fleet's rows.
 *
 * The client joins again by itself when its socket was lost. It does not when the server has closed the channel, or has
 * said that changes do not flow: then a new channel is opened, later and later.
 */
export class Subscription {
  readonly #supabase: Supabase;
  readonly #events: SubscriptionEvents;
  readonly #backoff = new Backoff(1000, 20_000);
  #channel: RealtimeChannel | null = null;
  #flowTimer: ReturnType<typeof setTimeout> | undefined;
  #reopenTimer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;
  #opened = 0;

  constructor(supabase: Supabase, events: SubscriptionEvents) {
    this.#supabase = supabase;
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
  }

  /** A heartbeat of the connection was answered, or was not. */
  heartbeat(status: string): void {
    if (status === "timeout" || status === "error") this.#events.signal({ socket: false });
    else this.#checkSocket();
  }

  readonly #networkChanged = (): void => {
    this.#events.signal({ online: navigator.onLine });
    this.#checkSocket();
    // Back on the network with all as it was: ask the server rather than believe it.
    if (navigator.onLine && this.#supabase.realtime.isConnected()) this.#reopen(0);
  };

  readonly #checkSocket = (): void => {
    if (!this.#supabase.realtime.isConnected()) this.#events.signal({ socket: false });
  };

  async #open(): Promise<void> {
    await this.#supabase.realtime.setAuth();
    if (this.#closed) return;
    // A name of its own: one that is being left keeps its name until the server has answered.
    const channel = this.#supabase.channel(`fleet-${++this.#opened}`);
    this.#channel = channel;
    for (const table of ["agents", "commands"] as const) {
      channel.on("postgres_changes", { event: "*", schema: "onsembl", table }, (payload) => {
        if (channel !== this.#channel) return;
        const change = changeOf(table, payload);
        if (change !== null) this.#events.change(change);
      });
    }
    for (const table of NOTICED) {
      channel.on("postgres_changes", { event: "*", schema: "onsembl", table }, () => {
        if (channel === this.#channel) this.#events.noticed(table);
      });
    }
    channel.on("system", {}, (payload: { extension?: string; status?: string }) => {
      if (channel === this.#channel && payload.extension === "postgres_changes") this.#flow(payload.status === "ok");
    });
    channel.subscribe((status) => {
      if (channel === this.#channel) this.#status(status);
    });
  }

  #status(status: string): void {
    clearTimeout(this.#flowTimer);
    if (status === "SUBSCRIBED") {
      this.#events.signal({ online: true, socket: this.#supabase.realtime.isConnected(), joined: true, flowing: false });
      this.#flowTimer = setTimeout(() => this.#reopen(this.#backoff.next()), FLOW_MS);
      return;
    }
    this.#events.signal({ socket: this.#supabase.realtime.isConnected(), joined: false });
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
    if (channel !== null) void this.#supabase.removeChannel(channel);
  }
}

function changeOf(
  table: "agents" | "commands",
  payload: RealtimePostgresChangesPayload<Record<string, unknown>>,
): Change | null {
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
