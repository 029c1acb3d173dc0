import { STATE_LABELS } from "./commands.ts";
import type { CommandState } from "./protocol.ts";
import type { Agent, ScheduleAnswer, ScheduleRun, Target } from "./rest.ts";
import { labelsOf, targetName } from "./target.ts";

/** Common rules, offered by name. */
export const RULES: [label: string, cron: string][] = [
  ["every hour", "0 * * * *"],
  ["every day at 6:00", "0 6 * * *"],
  ["on working days at 6:00", "0 6 * * mon-fri"],
  ["every Monday at 6:00", "0 6 * * mon"],
  ["on the first of each month", "0 6 1 * *"],
];

/** The targets to choose from for a schedule. The present target comes first if it is none of the others. */
export function targetChoices(agents: Agent[], now: Target | null): [label: string, target: Target][] {
  const choices: [string, Target][] = [
    ...agents.filter((agent) => agent.disabled_at === null).map((agent): [string, Target] => [agent.name, { agents: [agent.name] }]),
    ...labelsOf(agents).map(([label]): [string, Target] => [`all labelled ${label}`, { labels: [label] }]),
    ["all agents", { all: true }],
  ];
  if (now !== null && !choices.some(([, target]) => isSame(target, now))) choices.unshift([targetName(now, agents), now]);
  return choices;
}

export function isSame(a: Target, b: Target): boolean {
  const key = ({ agents, labels, all }: Target): string => JSON.stringify([agents ?? null, labels ?? null, all === true]);
  return key(a) === key(b);
}

/** A schedule's rule in words; `once` for a schedule with a single time. */
export function ruleName(schedule: Pick<ScheduleAnswer, "cron" | "time_zone">): string {
  if (schedule.cron === null) return "once";
  const known = RULES.find(([, cron]) => cron === schedule.cron);
  return `${known?.[0] ?? schedule.cron}, ${schedule.time_zone}`;
}

/** The result of a run: `succeeded`, `2 succeeded, 1 failed`, or its error; and the agents that it skipped. */
export function resultName(run: ScheduleRun): string {
  if (run.error !== null) return run.error;
  const counts = Object.entries(run.counts) as [CommandState, number][];
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  const parts = counts.map(([state, count]) => (total === 1 ? STATE_LABELS[state] : `${count} ${STATE_LABELS[state]}`));
  if (run.skipped.length > 0) parts.push(`skipped ${run.skipped.join(", ")}: the previous command is still queued`);
  return parts.join(", ");
}
