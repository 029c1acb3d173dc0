import type { Query } from "./api.ts";
import { counted } from "./format.ts";
import { STATE_LABELS } from "./commands.ts";
import { ACTIVE_STATES, FINAL_STATES, type CommandState } from "./protocol.ts";
import type { Agent, GroupSummary, Target } from "./rest.ts";

/** The values of the history's fields, as the address holds them. */
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

/** The choices of the state field; a choice may stand for several states. */
export const STATES: [value: string, label: string][] = [
  ["", "any state"],
  ["queued", "queued"],
  [[...ACTIVE_STATES].join(","), "running"],
  ["succeeded", "succeeded"],
  ["failed,timed_out,lost", "failed, limit exceeded or lost"],
  ["cancelled", "cancelled"],
];

export function filterOf(query: URLSearchParams): HistoryFilter {
  return Object.fromEntries(NAMES.map((name) => [name, query.get(name) ?? ""])) as unknown as HistoryFilter;
}

export function addressQuery(filter: HistoryFilter): URLSearchParams {
  return new URLSearchParams(NAMES.map((name) => [name, filter[name].trim()]).filter(([, value]) => value !== ""));
}

/** The query for the API; null if the filter names an agent that does not exist. */
export function commandQuery(filter: HistoryFilter, agents: Agent[], now: number): Query<"/v1/commands"> | null {
  const agent = agents.find((one) => one.name === filter.agent);
  if (filter.agent !== "" && agent === undefined) return null;
  const hours = TIMES.find(([value]) => value === filter.since)?.[2] ?? null;
  return {
    agent_id: agent?.id ?? null,
    state: filter.state || null,
    group_id: filter.group || null,
    tag: filter.tag.trim() || null,
    by: filter.by.trim() || null,
    q: filter.q.trim() || null,
    since: hours === null ? null : new Date(now - hours * 3_600_000).toISOString(),
  };
}

/** A group's progress, as numbers and as text: `3 of 5 commands ended: 2 succeeded, 1 failed, 2 running`. */
export function groupProgress(group: GroupSummary): { ended: number; total: number; text: string } {
  const counts = Object.entries(group.counts) as [CommandState, number][];
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  const ended = counts.filter(([state]) => FINAL_STATES.has(state)).reduce((sum, [, count]) => sum + count, 0);
  const states = counts.map(([state, count]) => `${count} ${STATE_LABELS[state]}`).join(", ");
  return { ended, total, text: `${ended} of ${counted(total, "command")} ended: ${states}` };
}

/** The target of a group, as it was requested. */
export function groupTarget(group: GroupSummary): string {
  const target = group.target as Target;
  if (target.all === true) return "all agents";
  if (target.labels) return `agents labelled ${target.labels.join(", ")}`;
  return (target.agents ?? []).join(", ");
}
