import { FINAL_STATES } from "./protocol.ts";
import type { Agent, Command } from "./rest.ts";

/**
 * Rows reach the page by REST and by Realtime, and may overtake one another. These functions decide which of two versions
 * of a row is older, from values that the database never takes back: an agent's epoch only grows, a command's final state
 * never changes.
 */

/** Whether `candidate` is an older version of the agent than `known`. */
export function isStaleAgent(known: Agent, candidate: Agent): boolean {
  if (candidate.epoch !== known.epoch) return candidate.epoch < known.epoch;
  // Within one epoch an agent goes offline once; it reconnects under the next epoch.
  return known.status === "offline" && candidate.status === "online";
}

/** Whether `candidate` is an older version of the command than `known`. */
export function isStaleCommand(known: Command, candidate: Command): boolean {
  if (known.revision !== candidate.revision) return candidate.revision < known.revision;
  if (FINAL_STATES.has(known.state)) return candidate.state !== known.state;
  const order = comparePlaces(placeOf(known), placeOf(candidate));
  if (order !== 0) return order > 0;
  if (known.delivery_attempts !== candidate.delivery_attempts) {
    return candidate.delivery_attempts < known.delivery_attempts;
  }
  if (known.cancel_requested_at !== null && candidate.cancel_requested_at === null) return true;
  return stepTime(known) > stepTime(candidate);
}

/** A command may return to the queue once; the time of its last dispatch then distinguishes the rounds. */
function placeOf(command: Command): [phase: number, round: number, step: number] {
  if (FINAL_STATES.has(command.state)) return [2, 0, 0];
  if (command.state === "running") return [1, 0, 0];
  const dispatched = command.dispatched_at === null ? 0 : Date.parse(command.dispatched_at);
  return [0, dispatched, command.state === "queued" ? 1 : 0];
}

function comparePlaces(a: readonly number[], b: readonly number[]): number {
  for (const [index, value] of a.entries()) {
    const other = b[index] ?? 0;
    if (value !== other) return value - other;
  }
  return 0;
}

function stepTime(command: Command): number {
  return command.cancel_step !== null ? Date.parse(command.cancel_step.at) : 0;
}

/**
 * The command of a change, completed from the known row: Postgres leaves a long text out of an update that did not
 * change it. Null if the known row is missing too: then the command has to be read.
 */
export function completed(known: Command | undefined, record: Partial<Command>): Command | null {
  const row = { ...known, ...withoutMissing(record) } as Partial<Command>;
  const whole = row.id !== undefined && typeof row.text === "string" && row.state !== undefined;
  return whole ? (row as Command) : null;
}

function withoutMissing(record: Partial<Command>): Partial<Command> {
  const { text, ...rest } = record;
  return text === undefined || text === null ? rest : { ...rest, text };
}

/** Orders queued commands as they will run. */
export function byQueue(a: Command, b: Command): number {
  return a.priority - b.priority || (a.position ?? a.seq) - (b.position ?? b.seq) || a.seq - b.seq;
}

export function newestFirst(a: Command, b: Command): number {
  return b.seq - a.seq;
}
