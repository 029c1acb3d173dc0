import type { CommandState } from "./protocol.ts";
import type { CancelStepAnswer, Command } from "./rest.ts";
import { counted, elapsed } from "./format.ts";

/** The name of each state on the page. */
export const STATE_LABELS: Record<CommandState, string> = {
  queued: "queued",
  dispatched: "dispatched",
  running: "running",
  succeeded: "succeeded",
  failed: "failed",
  cancelled: "cancelled",
  timed_out: "limit exceeded",
  lost: "lost",
};

/** The steps of the escalation that stops a command. */
export const STEP_LABELS: Record<CancelStepAnswer["step"], string> = {
  interrupt: "interrupt sent",
  sigint: "SIGINT sent",
  sigterm: "SIGTERM sent",
  sigkill: "SIGKILL sent",
  sweep: "looking for processes that left the process group",
  failed: "processes survived SIGKILL",
};

/** The progress of a cancellation, or of a stop at an exceeded limit; null if there is neither. */
export function cancelProgress(command: Command): string | null {
  const step = command.cancel_step;
  if (step === null) return command.cancel_requested_at === null ? null : "cancel requested";
  const cause = step.limit !== undefined ? "limit exceeded: " : "";
  const label = cause + STEP_LABELS[step.step];
  const left = step.processes_left;
  if (step.step === "failed") return `cancel failed, processes survived SIGKILL: ${step.pids.join(", ")}`;
  return left > 0 ? `${label}, ${counted(left, "process", "processes")} left` : label;
}

/** The place in the queue and the expected start: `next`, `2nd, in about 3 m`, `11th`. */
export function placeInQueue(ahead: number, startsIn: number | null): string {
  const place = ahead === 0 ? "next" : ordinal(ahead + 1);
  return startsIn === null ? place : `${place}, in about ${elapsed(Math.max(startsIn, 1) * 1000)}`;
}

function ordinal(n: number): string {
  const suffix = n % 100 >= 11 && n % 100 <= 13 ? "th" : (["th", "st", "nd", "rd"][n % 10] ?? "th");
  return `${n}${suffix}`;
}

/** Tags or labels as they are typed, separated by spaces or commas; each once. */
export function wordsOf(text: string): string[] {
  return [...new Set(text.split(/[\s,]+/).filter((word) => word !== ""))];
}

/** The command's exit code or signal, where its state does not tell it; null if there is none. */
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

/** What became of a text that was sent into a running turn; null for other commands. */
export function steered(command: Command): string | null {
  switch (command.steer_state) {
    case "waiting":
      return "for the running turn";
    case "given":
      return "in the running turn, not read yet";
    case "taken":
      return `read by the turn, step ${command.steer_step}`;
    case "late":
      return "sent too late for the turn";
    case "unknown":
    case null:
      return null;
  }
}

/** The run time in ms, up to `now` for a running command; null before the command has started. */
export function ran(command: Command, now: number): number | null {
  if (command.started_at === null) return null;
  const end = command.ended_at === null ? now : Date.parse(command.ended_at);
  return end - Date.parse(command.started_at);
}

/** The texts that were sent before, newest last: ↑ and ↓ in the command box step through them. */
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

  /** The text before the one shown; null at the oldest. `shown` is stored if it is the draft. */
  older(shown: string): string | null {
    if (this.#at === 0) return null;
    if (this.#at === this.#sent.length) this.#draft = shown;
    this.#at -= 1;
    return this.#sent[this.#at] ?? null;
  }

  /** The text after the one shown, and the draft after the newest; null if the draft is shown. */
  newer(): string | null {
    if (this.#at >= this.#sent.length) return null;
    this.#at += 1;
    return this.#sent[this.#at] ?? this.#draft;
  }
}
