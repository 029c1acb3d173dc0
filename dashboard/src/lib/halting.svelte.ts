import { type Api, ApiError } from "./api.ts";
import { Backoff } from "./backoff.ts";
import { counted } from "./format.ts";
import type { HaltAnswer, HaltedAgent, HaltState, HaltStatus } from "./protocol.ts";

/** How each state is called on the page. */
export const HALT_LABELS: Record<HaltState, string> = {
  not_reached: "not reachable",
  stopping: "stopping",
  stopped: "stopped, nothing runs",
  dying: "still dying",
};

/** The emergency stop: whether the fleet is halted, and how far that has come, agent by agent. */
export class Halting {
  halt = $state.raw<HaltAnswer | null>(null);
  agents = $state.raw<HaltedAgent[]>([]);
  readonly stopped = $derived(this.agents.filter((agent) => agent.state === "stopped").length);
  /** Whether every agent has proven that nothing runs. */
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

  /** Something has changed. Changes come many at a time: while one answer is awaited, one more question is enough. */
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
        const status = await this.#api.halt();
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

  /** Stop everything. Raises ApiError. */
  async begin(reason: string): Promise<void> {
    this.#take(await this.#api.beginHalt(reason === "" ? {} : { reason }));
    void this.read();
  }

  /** Let the fleet work again. Raises ApiError. */
  async lift(): Promise<void> {
    await this.#api.liftHalt();
    this.halt = null;
    this.agents = [];
    void this.read();
  }

  #take(status: HaltStatus): void {
    this.halt = status.halt;
    this.agents = status.halt === null ? [] : status.agents;
  }
}

/** What one agent's line says beside its state. */
export function haltDetail(agent: HaltedAgent): string {
  if (agent.state === "dying") return agent.pids.length > 0 ? `would not die: ${agent.pids.join(", ")}` : "";
  if (agent.state === "not_reached") return "is stopped the moment it returns";
  if (agent.state !== "stopping" || agent.processes_left === 0) return "";
  const left = `${counted(agent.processes_left, "process", "processes")} left`;
  return agent.step === null ? left : `${RUNGS[agent.step] ?? agent.step}, ${left}`;
}

const RUNGS: Record<string, string> = {
  interrupt: "interrupt sent",
  sigint: "SIGINT sent",
  sigterm: "SIGTERM sent",
  sigkill: "SIGKILL sent",
  sweep: "looking for what escaped",
};
