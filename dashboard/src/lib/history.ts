import type { CommandQuery } from "./api.ts";
import { counted } from "./format.ts";
import { STATE_LABELS } from "./commands.ts";
import { ACTIVE_STATES, FINAL_STATES, type Agent, type CommandState, type GroupSummary, type Target } from "./protocol.ts";

/** What the history's fields hold, as the address keeps it. */
export interface HistoryFilter {
  q: string;
  agent: string;
  state: string;
  tag: string;
  by: string;
  since: string;
  group: string;
}

const NAMES = ["q", "agent", "state", "tag", "by", "since", "group"] as const;

export const TIMES: [value: string, label: string, hours: number | null][] = [
  ["", "any time", null],
  ["1h", "the last hour", 1],
  ["1d", "the last day", 24],
  ["7d", "the last week", 7 * 24],
];

/** States that people look for, some of them together. */
export const STATES: [value: string, label: string][] = [
  ["", "any state"],
  ["queued", "queued"],
  [[...ACTIVE_STATES].join(","), "running"],
  ["succeeded", "succeeded"],
  ["failed,timed_out,lost", "gone wrong"],
  ["cancelled", "cancelled"],
];

export function filterOf(query: URLSearchParams): HistoryFilter {
  return Object.fromEntries(NAMES.map((name) => [name, query.get(name) ?? ""])) as unknown as HistoryFilter;
}

export function addressQuery(filter: HistoryFilter): URLSearchParams {
  return new URLSearchParams(NAMES.map((name) => [name, filter[name].trim()]).filter(([, value]) => value !== ""));
}

/** As the API is asked; null when an agent is meant that there is not. */
export function commandQuery(filter: HistoryFilter, agents: Agent[], now: number): CommandQuery | null {
  const agent = agents.find((one) => one.name === filter.agent);
  if (filter.agent !== "" && agent === undefined) return null;
  const hours = TIMES.find(([value]) => value === filter.since)?.[2] ?? null;
  return {
    agent_id: agent?.id,
    state: filter.state || undefined,
    group_id: filter.group || undefined,
    tag: filter.tag.trim() || undefined,
    by: filter.by.trim() || undefined,
    q: filter.q.trim() || undefined,
    since: hours === null ? undefined : new Date(now - hours * 3_600_000).toISOString(),
  };
}

/** How far a group has come: `3 of 5 over: 2 succeeded, 1 failed; 2 running`. */
export function groupProgress(group: GroupSummary): { over: number; total: number; said: string } {
  const counts = Object.entries(group.counts) as [CommandState, number][];
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  const over = counts.filter(([state]) => FINAL_STATES.has(state)).reduce((sum, [, count]) => sum + count, 0);
  const said = counts.map(([state, count]) => `${count} ${STATE_LABELS[state]}`).join(", ");
  return { over, total, said: `${over} of ${counted(total, "command")} over: ${said}` };
}

/** Whom a group was sent to, as it was asked for. */
export function groupTarget(group: GroupSummary): string {
  const target = group.target as Target;
  if (target.all === true) return "all agents";
  if (target.labels) return `agents labelled ${target.labels.join(", ")}`;
  return (target.agents ?? []).join(", ");
}
