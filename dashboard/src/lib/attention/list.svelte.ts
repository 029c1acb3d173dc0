import { SvelteMap } from "svelte/reactivity";

import { type Api, ApiError } from "../api.ts";
import { Backoff } from "../backoff.ts";
import type { AttentionRequest } from "../rest.ts";
import { listOpen } from "./calls.ts";
import { isNote, oldestFirst } from "./rows.ts";

/** The open requests and notes of the fleet: read by REST, and read again whenever one has changed. */
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
  #reading = false;
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

  /** Reads the requests. After a passing failure it tries again. */
  async read(): Promise<void> {
    this.#again = true;
    if (this.#reading || this.#closed) return;
    this.#reading = true;
    clearTimeout(this.#retry);
    try {
      while (this.#again && !this.#closed) {
        this.#again = false;
        this.#take(await listOpen(this.#api));
      }
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

  #take(rows: AttentionRequest[]): void {
    const open = new Set(rows.map(({ id }) => id));
    for (const id of this.#rows.keys()) if (!open.has(id)) this.#rows.delete(id);
    for (const row of rows) {
      const known = this.#rows.get(row.id);
      if (known?.digest !== row.digest) this.#rows.set(row.id, row);
    }
  }
}
