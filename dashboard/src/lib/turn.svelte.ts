import { Api, ApiError } from "./api.ts";
import { Backoff } from "./backoff.ts";
import type { StepAnswer, StepsAnswer } from "./rest.ts";

const PAGE = 500;

/** The steps of one command's turn: read by REST, and read on whenever its progress has changed. */
export class Turn {
  readonly commandId: string;
  /** In no order; a list that is replaced, since a map that follows each of 10,000 steps is slow. */
  steps = $state.raw<readonly StepAnswer[]>([]);
  /** False until the steps have been read once. */
  loaded = $state(false);
  problem = $state("");

  readonly #api: Api;
  readonly #backoff = new Backoff(1000, 15_000);
  readonly #byNumber = new Map<number, StepAnswer>();
  #after = 0;
  #reading = false;
  #again = false;
  #closed = false;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(api: Api, commandId: string) {
    this.#api = api;
    this.commandId = commandId;
    void this.read();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
  }

  /** Reads the steps that have changed since the last reading. After a passing failure it tries again. */
  async read(): Promise<void> {
    this.#again = true;
    if (this.#reading || this.#closed) return;
    this.#reading = true;
    clearTimeout(this.#retry);
    try {
      while (this.#again && !this.#closed) {
        this.#again = false;
        await this.#readChanged();
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

  /** One step with its whole text and result. Raises ApiError. */
  whole(number: number): Promise<StepAnswer> {
    const params = { path: { command_id: this.commandId, number } };
    return this.#api.get("/v1/commands/{command_id}/steps/{number}", { params });
  }

  async #readChanged(): Promise<void> {
    let next: number | null = this.#after;
    while (next !== null && !this.#closed) {
      const params = { path: { command_id: this.commandId }, query: { after: next, limit: PAGE } };
      const page: StepsAnswer = await this.#api.get("/v1/commands/{command_id}/steps", { params });
      for (const step of page.steps) {
        this.#byNumber.set(step.number, step);
        this.#after = Math.max(this.#after, step.changed);
      }
      if (page.steps.length > 0) this.steps = [...this.#byNumber.values()];
      next = page.next_after;
    }
  }
}
