import { activityOf } from "../activity.ts";
import { STATE_LABELS } from "../commands.ts";
import { atLeast, dollars, elapsed, firstLine } from "../format.ts";
import type { LastLines } from "../last-lines.svelte.ts";
import type { AgentActivity } from "../protocol.ts";
import type { Agent, AttentionRequest, Command, LastCommand } from "../rest.ts";

/** How an agent looks in the list: what it does, and `failed` for an idle agent whose last command did not succeed. */
export type Look = AgentActivity | "failed";

/** What waits for an agent and how its last command ended. */
export interface Work {
  queued: number;
  last: LastCommand | null;
}

/** What the page knows of an agent at present. */
export interface Known {
  agent: Agent;
  request: AttentionRequest | undefined;
  active: Command | undefined;
  work: Work | undefined;
  halted: boolean;
}

/** A row of the list. */
export interface Entry extends Known {
  activity: AgentActivity;
  look: Look;
  /** What the agent does, or how its last command ended, in words: the outcome, if there is one, and the text. */
  doing: string;
  /** `✓` for a success, else such as `failed:`; "" while there is none. */
  outcome: string;
  /** The text of the command, or what the agent waits for. */
  text: string;
  /** The command whose text that is, and whose last line may stand in its place; null if it is none. */
  commandId: string | null;
  /** What the running command, or the last one, has cost so far (USD), if it is known. */
  cost: number | null;
  /** Whether that is the least that it cost. */
  partial: boolean;
  /** Since when (Unix time in ms); null if nobody knows. */
  since: number | null;
}

/** The outcome of a command that succeeded. */
export const SUCCESS = "✓";

const FAILED = new Set<LastCommand["state"]>(["failed", "timed_out", "lost"]);

export function entryOf(known: Known): Entry {
  const { agent, request, active, work } = known;
  const activity = activityOf(agent, { halted: known.halted, waits: request !== undefined, works: active !== undefined });
  const last = work?.last ?? null;
  const look = activity === "idle" && last !== null && FAILED.has(last.state) ? "failed" : activity;
  const { text, outcome = "", commandId = null, since } = wordsOf(known, activity, last);
  const doing = outcome === "" ? text : `${outcome} ${text}`;
  const cost = (active === undefined ? last?.cost_usd : active.usage?.cost_usd) ?? null;
  const partial = (active === undefined ? last?.partial : active.usage?.partial) ?? false;
  return { ...known, activity, look, doing, outcome, text, commandId, cost, partial, since: since === null ? null : Date.parse(since) };
}

interface Words {
  outcome?: string;
  text: string;
  commandId?: string;
  since: string | null;
}

function wordsOf(known: Known, activity: AgentActivity, last: LastCommand | null): Words {
  const { agent, request, active } = known;
  if (activity === "waiting" && request !== undefined) return { text: firstLine(request.title), since: request.asked_at };
  if (active !== undefined && (activity === "working" || activity === "offline")) {
    const since = active.started_at ?? active.dispatched_at;
    const words = { outcome: activity === "offline" ? "offline:" : "", since };
    if (request !== undefined) return { ...words, text: firstLine(request.title) };
    return { ...words, text: firstLine(active.text), commandId: active.id };
  }
  if (agent.disabled_at !== null) return { text: "disabled", since: agent.disabled_at };
  switch (activity) {
    case "problem":
      return { text: "takes no command", since: agent.problem_since };
    case "limited":
      return { text: "limited", since: agent.limited_since };
    case "paused":
      return { text: "paused", since: agent.paused_at };
    case "offline":
      return { text: agent.disconnected_at === null ? "never connected" : "offline", since: agent.disconnected_at };
    case "halted":
      return { text: "halted", since: null };
    default:
      if (last === null) return { text: "idle", since: agent.connected_at };
      return {
        outcome: last.state === "succeeded" ? SUCCESS : `${STATE_LABELS[last.state]}:`,
        text: firstLine(last.text),
        commandId: last.id,
        since: last.ended_at,
      };
  }
}

/** Whether the agent goes on only when a person does something. */
export function needsPerson({ activity }: Entry): boolean {
  return activity === "waiting" || activity === "problem";
}

/** A duration in the least room: `12s`, `3m`, `2h`, `4d`. */
export function brief(milliseconds: number): string {
  const seconds = Math.floor(Math.max(0, milliseconds) / 1000);
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`;
}

/** The last line of the command that the row tells of; null if it tells of none, or none is known. */
export function lastLine({ agent, commandId, work }: Entry, lines: LastLines): string | null {
  if (commandId === null) return null;
  const last = work?.last;
  return lines.of(agent.id, commandId) ?? (last?.id === commandId ? last.last_line : null);
}

/** The whole row in words, for a tooltip; `line` is the last line of the command. */
export function described(entry: Entry, now: number, line: string | null = null): string {
  const { agent, work, since } = entry;
  const parts = [`${agent.name}: ${entry.activity}, ${entry.doing}${since === null ? "" : `, for ${elapsed(now - since)}`}`];
  if (line !== null) parts.push(line);
  if (entry.cost !== null) parts.push(`cost: ${atLeast(entry.partial)}${dollars(entry.cost)}`);
  if (work !== undefined && work.queued > 0) parts.push(`${work.queued} queued`);
  if (agent.host !== "") parts.push(`on ${agent.host}`);
  if (agent.labels.length > 0) parts.push(`labels: ${agent.labels.join(", ")}`);
  return parts.join("\n");
}
