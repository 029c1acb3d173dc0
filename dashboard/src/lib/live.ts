/** The states of the live mark. */
export type Mark = "connecting" | "live" | "reconnecting";

/** Conditions that must all hold for the page to be up to date. */
export interface Signals {
  /** The browser reports a network. */
  online: boolean;
  /** Realtime's socket is open and its last heartbeat was answered. */
  socket: boolean;
  /** The channel is joined. */
  joined: boolean;
  /** The server has reported that changes of the database flow: it answers a join earlier than that. */
  flowing: boolean;
  /** A snapshot was read after changes began to flow. */
  current: boolean;
}

export const SILENT: Signals = { online: true, socket: false, joined: false, flowing: false, current: false };

/** Whether the page is up to date, and when it last was (Unix time in ms). */
export class Live {
  readonly #listener: (mark: Mark, liveUntil: number | null) => void;
  readonly #now: () => number;
  #signals: Signals = SILENT;
  #mark: Mark = "connecting";
  #liveUntil: number | null = null;

  constructor(listener: (mark: Mark, liveUntil: number | null) => void, now: () => number = Date.now) {
    this.#listener = listener;
    this.#now = now;
  }

  get mark(): Mark {
    return this.#mark;
  }

  /** Takes in changed signals. When one falls, the signals that depend on it fall too, until they are set again. */
  set(change: Partial<Signals>): void {
    const next = { ...this.#signals, ...change };
    if (!next.online) next.socket = false;
    if (!next.socket) next.joined = false;
    if (!next.joined) next.flowing = false;
    if (!next.flowing) next.current = false;
    this.#signals = next;
    const mark = next.current ? "live" : this.#liveUntil === null && this.#mark !== "live" ? "connecting" : "reconnecting";
    if (mark === this.#mark) return;
    if (this.#mark === "live") this.#liveUntil = this.#now();
    this.#mark = mark;
    this.#listener(mark, mark === "live" ? null : this.#liveUntil);
  }
}
