import { SvelteMap } from "svelte/reactivity";

import { type Api, ApiError } from "../api.ts";
import { Backoff } from "../backoff.ts";
import type { AttentionRequest } from "../rest.ts";
import { listOpen, readRequest } from "./calls.ts";
import { isNote, oldestFirst } from "./rows.ts";

/** A change of a row, as Realtime sends it: without the body. */
export type ChangedRequest = Pick<AttentionRequest, "id" | "state" | "digest" | "delivery">;

/** More requests than this are read together. */
const MOST_ALONE = 8;
/** How many changes are remembered. */
const MOST_SEEN = 512;

/** A change of a row with all that the list needs; null for another one, after which everything is read. */
export function changedRequest(record: Record<string, unknown> | null): ChangedRequest | null {
  const known = record !== null && ["id", "state", "digest"].every((name) => typeof record[name] === "string");
  return known ? (record as unknown as ChangedRequest) : null;
}

/** The open requests and notes of the fleet, read by REST. After a change only a request that asks anew is read. */
export class OpenRequests {
  /** False until the requests have been read once. */
  loaded = $state(false);
  problem = $state("");
  readonly #rows = new SvelteMap<string, AttentionRequest>();
  readonly #sorted = $derived([...this.#rows.values()].sort(oldestFirst));
  /** The requests, for which agents wait; the oldest first. */
  readonly rows = $derived(this.#sorted.filter((row) => !isNote(row)));
  /** The notes, for which nobody waits; the oldest first. */
  readonly notes = $derived(this.#sorted.filter(isNote));
  /** The oldest request of each agent that has one. */
  readonly oldest = $derived(new Map([...this.rows].reverse().map((row) => [row.agent_id, row])));

  readonly #api: Api;
  readonly #backoff = new Backoff(1000, 15_000);
  readonly #watchers = new Set<(row: ChangedRequest | null) => void>();
  /** The latest changes, by the request's id. */
  readonly #seen = new Map<string, ChangedRequest>();
  /** Requests that have changed, and are to be read. */
  readonly #due = new Set<string>();
  #reading = false;
  /** Whether all requests are to be read. */
  #again = false;
  #closed = false;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(api: Api) {
    this.#api = api;
  }

  has(id: string): boolean {
    return this.#rows.has(id);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
  }

  /** Takes a request that is not open any more out of the list, before the list is read again. */
  decided(row: AttentionRequest): void {
    if (row.state !== "open") this.#rows.delete(row.id);
  }

  /** Calls `watcher` with each change, null when any row may have changed; the returned function stops this. */
  watch(watcher: (row: ChangedRequest | null) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** The last change of a request that has come; undefined if it was long ago. */
  lastChange(id: string): ChangedRequest | undefined {
    return this.#seen.get(id);
  }

  /** Takes a change of a row; null when any row may have changed. */
  changed(row: ChangedRequest | null): void {
    if (row !== null) {
      this.#seen.delete(row.id);
      this.#seen.set(row.id, row);
      if (this.#seen.size > MOST_SEEN) this.#seen.delete([...this.#seen.keys()][0] ?? "");
    }
    for (const watcher of this.#watchers) watcher(row);
    if (row === null) {
      void this.read();
      return;
    }
    if (row.state !== "open") this.#rows.delete(row.id);
    const isNew = row.state === "open" && this.#rows.get(row.id)?.digest !== row.digest;
    // What is being read may be older than this change.
    if (!isNew && !this.#reading) return;
    this.#due.add(row.id);
    void this.#read();
  }

  /** Reads all requests. After a passing failure it tries again. */
  async read(): Promise<void> {
    this.#again = true;
    await this.#read();
  }

  async #read(): Promise<void> {
    if (this.#reading || this.#closed) return;
    this.#reading = true;
    clearTimeout(this.#retry);
    try {
      while ((this.#again || this.#due.size > 0) && !this.#closed) await this.#readDue();
      this.problem = "";
      this.#backoff.reset();
      this.loaded = true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.problem = error.message;
      if (error.isPassing && !this.#closed) this.#retry = setTimeout(() => void this.read(), this.#backoff.next());
    } finally {
      this.#reading = false;
    }
  }

  async #readDue(): Promise<void> {
    const due = [...this.#due];
    const all = this.#again || due.length > MOST_ALONE;
    this.#again = false;
    this.#due.clear();
    if (all) {
      this.#take(await listOpen(this.#api));
      return;
    }
    try {
      for (const row of await Promise.all(due.map((id) => readRequest(this.#api, id)))) {
        if (row.state === "open") this.#rows.set(row.id, row);
        else this.#rows.delete(row.id);
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#again = true; // one is gone, or the server does not answer: the list tells
    }
  }

  #take(rows: AttentionRequest[]): void {
    const open = new Set(rows.map(({ id }) => id));
    for (const id of this.#rows.keys()) if (!open.has(id)) this.#rows.delete(id);
    for (const row of rows) {
      const known = this.#rows.get(row.id);
      if (known?.digest !== row.digest) this.#rows.set(row.id, row);
    }
  }
}
