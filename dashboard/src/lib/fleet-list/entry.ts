import { activityOf } from "../activity.ts";
import { STATE_LABELS } from "../commands.ts";
import { elapsed, firstLine } from "../format.ts";
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
  /** What the agent does, or how its last command ended, in words. */
  doing: string;
  /** Since when (Unix time in ms); null if nobody knows. */
  since: number | null;
}

const FAILED = new Set<LastCommand["state"]>(["failed", "timed_out", "lost"]);

export function entryOf(known: Known): Entry {
  const { agent, request, active, work } = known;
  const activity = activityOf(agent, { halted: known.halted, waits: request !== undefined, works: active !== undefined });
  const last = work?.last ?? null;
  const look = activity === "idle" && last !== null && FAILED.has(last.state) ? "failed" : activity;
  const [doing, since] = wordsOf(known, activity, last);
  return { ...known, activity, look, doing, since: since === null ? null : Date.parse(since) };
}

function wordsOf(known: Known, activity: AgentActivity, last: LastCommand | null): [doing: string, since: string | null] {
  const { agent, request, active } = known;
  if (activity === "waiting" && request !== undefined) return [firstLine(request.title), request.asked_at];
  if (active !== undefined && (activity === "working" || activity === "offline")) {
    const text = firstLine(request?.title ?? active.text);
    return [activity === "offline" ? `offline: ${text}` : text, active.started_at ?? active.dispatched_at];
  }
  if (agent.disabled_at !== null) return ["disabled", agent.disabled_at];
  switch (activity) {
    case "problem":
      return ["takes no command", agent.problem_since];
    case "limited":
      return ["limited", agent.limited_since];
    case "paused":
      return ["paused", agent.paused_at];
    case "offline":
      return [agent.disconnected_at === null ? "never connected" : "offline", agent.disconnected_at];
    case "halted":
      return ["halted", null];
    default:
      if (last === null) return ["idle", agent.connected_at];
      return [`${last.state === "succeeded" ? "✓" : `${STATE_LABELS[last.state]}:`} ${firstLine(last.text)}`, last.ended_at];
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

/** The whole row in words, for a tooltip. */
export function described(entry: Entry, now: number): string {
  const { agent, work, since } = entry;
  const parts = [`${agent.name}: ${entry.activity}, ${entry.doing}${since === null ? "" : `, for ${elapsed(now - since)}`}`];
  if (work !== undefined && work.queued > 0) parts.push(`${work.queued} queued`);
  if (agent.host !== "") parts.push(`on ${agent.host}`);
  if (agent.labels.length > 0) parts.push(`labels: ${agent.labels.join(", ")}`);
  return parts.join("\n");
}
