import type { CancelStep, Command, CommandState } from "./protocol.ts";
import { counted, elapsed } from "./format.ts";

/** How each state is called on the page. */
export const STATE_LABELS: Record<CommandState, string> = {
  queued: "queued",
  dispatched: "dispatched",
  running: "running",
  succeeded: "succeeded",
  failed: "failed",
  cancelled: "cancelled",
  timed_out: "timed out",
  lost: "lost",
};

const RUNGS: Record<CancelStep["step"], string> = {
  interrupt: "interrupt sent",
  sigint: "SIGINT sent",
  sigterm: "SIGTERM sent",
  sigkill: "SIGKILL sent",
  sweep: "looking for processes that left the group",
  failed: "could not be stopped",
};

/** How far a cancellation has come, or a stop at a limit, which nobody asks for; null when there is none. */
export function cancelProgress(command: Command): string | null {
  const step = command.cancel_step as Partial<CancelStep> | null;
  if (step?.step === undefined) return command.cancel_requested_at === null ? null : "cancel requested";
  const why = typeof step.limit === "string" ? "past its limit: " : "";
  const rung = why + (RUNGS[step.step] ?? step.step);
  const left = step.processes_left ?? 0;
  if (step.step === "failed") return `cancel failed, would not die: ${(step.pids ?? []).join(", ")}`;
  return left > 0 ? `${rung}, ${counted(left, "process", "processes")} left` : rung;
}

/** `next`, `2nd`, `3rd`, `11th` in the line, and when it will probably start. */
export function placeInLine(ahead: number, startsIn: number | null): string {
  const place = ahead === 0 ? "next" : ordinal(ahead + 1);
  return startsIn === null ? place : `${place}, in about ${elapsed(Math.max(startsIn, 1) * 1000)}`;
}

function ordinal(n: number): string {
  const suffix = n % 100 >= 11 && n % 100 <= 13 ? "th" : (["th", "st", "nd", "rd"][n % 10] ?? "th");
  return `${n}${suffix}`;
}

/** Words as they are typed for tags or labels: between spaces or commas, each once. */
export function wordsOf(text: string): string[] {
  return [...new Set(text.split(/[\s,]+/).filter((word) => word !== ""))];
}

/** How the command ended, beyond its state: exit code, signal, error. */
export function outcome(command: Command): string | null {
  if (command.exit_code !== null && (command.exit_code !== 0 || command.state !== "succeeded")) {
    return `exit ${command.exit_code}`;
  }
  if (command.signal !== null) return signalName(command.signal);
  return null;
}

const SIGNALS: Record<number, string> = {
  1: "SIGHUP",
  2: "SIGINT",
  3: "SIGQUIT",
  6: "SIGABRT",
  9: "SIGKILL",
  11: "SIGSEGV",
  13: "SIGPIPE",
  14: "SIGALRM",
  15: "SIGTERM",
};

function signalName(signal: number): string {
  return SIGNALS[signal] ?? `signal ${signal}`;
}

/** From start to end in ms, or to `now` while it runs; null before it has started. */
export function ran(command: Command, now: number): number | null {
  if (command.started_at === null) return null;
  const end = command.ended_at === null ? now : Date.parse(command.ended_at);
  return end - Date.parse(command.started_at);
}

/** Texts that were sent before, newest last, for the command box to go back through. */
export class History {
  readonly #sent: string[];
  #at: number;
  #draft = "";

  constructor(sent: Iterable<string> = []) {
    this.#sent = [...sent];
    this.#at = this.#sent.length;
  }

  add(text: string): void {
    if (this.#sent.at(-1) !== text) this.#sent.push(text);
    this.#at = this.#sent.length;
  }

  /** The text before the one shown; null at the oldest. `shown` is kept when it is the draft. */
  older(shown: string): string | null {
    if (this.#at === 0) return null;
    if (this.#at === this.#sent.length) this.#draft = shown;
    this.#at -= 1;
    return this.#sent[this.#at] ?? null;
  }

  /** The text after the one shown, the draft at last; null when the draft is shown. */
  newer(): string | null {
    if (this.#at >= this.#sent.length) return null;
    this.#at += 1;
    return this.#sent[this.#at] ?? this.#draft;
  }
}
