/** What the live mark says. */
export type Mark = "connecting" | "live" | "reconnecting";

/** Everything that has to hold for the page to show the state as it is now. */
export interface Signals {
  /** The browser believes that it has a network. */
  online: boolean;
  /** Realtime's socket is open and its last heartbeat was answered. */
  socket: boolean;
  /** The channel is joined. */
  joined: boolean;
  /** The server has said that changes of the database flow: a join is answered before they do. */
  flowing: boolean;
  /** A snapshot was read after changes began to flow. */
  current: boolean;
}

export const SILENT: Signals = { online: true, socket: false, joined: false, flowing: false, current: false };

/** The truth about the page's state, with the moment at which it was last live (ms), which it may show meanwhile. */
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

  /** A signal has changed. What depends on one that fell falls with it: a new join has to prove itself anew. */
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
