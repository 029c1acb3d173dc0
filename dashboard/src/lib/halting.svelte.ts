import { type Api, ApiError } from "./api.ts";
import { Backoff } from "./backoff.ts";
import type { HaltAnswer, HaltedAgent, HaltStatus } from "./rest.ts";

/** The emergency stop: whether one is in force, and its progress for each agent. */
export class Halting {
  halt = $state.raw<HaltAnswer | null>(null);
  agents = $state.raw<HaltedAgent[]>([]);
  /** Whether the banner is shown; a new halt shows it. */
  shown = $state(true);
  readonly stopped = $derived(this.agents.filter((agent) => agent.state === "stopped").length);
  /** Whether every agent has confirmed that no process is left. */
  readonly done = $derived(this.stopped === this.agents.length);
  readonly #api: Api;
  readonly #backoff = new Backoff(500, 10_000);
  #reading = false;
  #again = false;
  #closed = false;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(api: Api) {
    this.#api = api;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retryTimer);
  }

  /** Reads the halt again after a change. However many changes arrive during a request, one more request follows it. */
  async read(): Promise<void> {
    if (this.#reading) {
      this.#again = true;
      return;
    }
    clearTimeout(this.#retryTimer);
    this.#reading = true;
    try {
      do {
        this.#again = false;
        const status = await this.#api.get("/v1/halt");
        if (this.#closed) return;
        this.#take(status);
        this.#backoff.reset();
      } while (this.#again);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.isPassing && !this.#closed) this.#retryTimer = setTimeout(() => void this.read(), this.#backoff.next());
    } finally {
      this.#reading = false;
    }
  }

  /** Begins an emergency stop. Raises ApiError. */
  async begin(reason: string): Promise<void> {
    this.#take(await this.#api.post("/v1/halt", { body: { reason: reason || null } }));
    void this.read();
  }

  /** Lifts the emergency stop. Raises ApiError. */
  async lift(): Promise<void> {
    await this.#api.delete("/v1/halt");
    this.halt = null;
    this.agents = [];
    void this.read();
  }

  #take(status: HaltStatus): void {
    if (status.halt?.id !== this.halt?.id) this.shown = true;
    this.halt = status.halt;
    this.agents = status.halt === null ? [] : status.agents;
  }
}
