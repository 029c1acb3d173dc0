import { SvelteMap } from "svelte/reactivity";

/** Changes are shown together, so often at most (ms): a large fleet writes much. */
const SHOWN_EVERY_MS = 250;

/** What Realtime says of the progress of a command. */
export interface Progress {
  command_id: string;
  agent_id: string;
  kind: string;
  name: string;
  title: string;
}

/**
 * The last line of commands: of the output, or the last step in words.
 *
 * It keeps that of each agent's newest command, and those of the commands that were read for the shown agent.
 */
export class LastLines {
  readonly #newest = new SvelteMap<string, { commandId: string; text: string }>();
  readonly #read = new SvelteMap<string, string>();
  #waiting = new Map<string, Progress>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** The last line of an agent's command; null if none is known. */
  of(agentId: string, commandId: string): string | null {
    const newest = this.#newest.get(agentId);
    return (newest?.commandId === commandId ? newest.text : this.#read.get(commandId)) ?? null;
  }

  /** Takes in lines by command, as the server has answered them. */
  took(lines: Record<string, string>): void {
    for (const [commandId, text] of Object.entries(lines)) this.#read.set(commandId, text);
  }

  /** Takes in a change of the table `turn_progress`. */
  change(progress: Progress): void {
    this.#waiting.set(progress.command_id, progress);
    this.#timer ??= setTimeout(() => this.#show(), SHOWN_EVERY_MS);
  }

  /** Forgets the commands other than those of `shown`. */
  forget(shown: ReadonlySet<string>): void {
    for (const id of this.#read.keys()) if (!shown.has(id)) this.#read.delete(id);
  }

  /** Forgets an agent that is gone. */
  forgetAgent(agentId: string): void {
    this.#newest.delete(agentId);
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #show(): void {
    const changes = this.#waiting;
    this.#waiting = new Map();
    this.#timer = undefined;
    for (const progress of changes.values()) {
      const text = wordsOf(progress);
      if (text === "") continue;
      this.#newest.set(progress.agent_id, { commandId: progress.command_id, text });
      if (this.#read.has(progress.command_id)) this.#read.set(progress.command_id, text);
    }
  }
}

/** The server says the same of a command that is read by REST. */
function wordsOf({ kind, name, title }: Progress): string {
  return kind === "tool" ? `${name} ${title}`.trim() : title;
}
