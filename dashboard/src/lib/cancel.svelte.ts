import { SvelteSet } from "svelte/reactivity";

import { type Api, ApiError } from "./api.ts";
import { Confirmation } from "./confirmation.svelte.ts";
import { notices } from "./notices.svelte.ts";
import { FINAL_STATES } from "./protocol.ts";
import type { Command } from "./rest.ts";

const ARMED_MS = 4000;

/** Cancels a command by two presses: the first press arms the button for a few seconds. */
export class Cancel {
  readonly #confirmation = new Confirmation<Command["id"]>(ARMED_MS);
  /** The commands whose cancellations the server has not answered yet. */
  readonly sending = new SvelteSet<string>();
  readonly #api: Api;
  readonly #answered: (command: Command) => void;

  constructor(api: Api, answered: (command: Command) => void) {
    this.#api = api;
    this.#answered = answered;
  }

  /** The command whose next press cancels it. */
  get armed(): string | null {
    return this.#confirmation.armed;
  }

  /** Whether the command can still be cancelled. */
  possible(command: Command): boolean {
    return !FINAL_STATES.has(command.state) && command.cancel_requested_at === null;
  }

  async press(command: Command): Promise<void> {
    if (!this.possible(command) || this.sending.has(command.id)) return;
    if (!this.#confirmation.press(command.id)) return;
    this.sending.add(command.id);
    try {
      const params = { path: { command_id: command.id } };
      this.#answered(await this.#api.post("/v1/commands/{command_id}/cancel", { params, body: {} }));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      notices.error(`Not cancelled: ${error.message}`);
    } finally {
      this.sending.delete(command.id);
    }
  }
}
