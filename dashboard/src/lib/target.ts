import { counted } from "./format.ts";
import type { Agent, Target } from "./protocol.ts";

/** Labels of the fleet with the number of agents that have them, by name. */
export function labelsOf(agents: Agent[]): [label: string, count: number][] {
  const counts = new Map<string, number>();
  for (const label of agents.filter(isIn).flatMap((agent) => agent.labels)) counts.set(label, (counts.get(label) ?? 0) + 1);
  return [...counts].sort(([a], [b]) => a.localeCompare(b));
}

/** The agents that a target means; the server has the last word. */
export function aimedAt(target: Target, agents: Agent[]): Agent[] {
  const { agents: named, labels } = target;
  return agents.filter(
    (agent) =>
      isIn(agent) &&
      (target.all === true ||
        named?.some((name) => name === agent.name || name === agent.id) === true ||
        labels?.every((label) => agent.labels.includes(label)) === true),
  );
}

/** A target in words: `all 12 agents`, `builder-1, builder-2`, `3 agents labelled backend, eu`. */
export function targetName(target: Target, agents: Agent[]): string {
  if (target.agents) return target.agents.map((name) => agents.find((agent) => agent.id === name)?.name ?? name).join(", ");
  const count = counted(aimedAt(target, agents).length, "agent");
  return target.all === true ? `all ${count}` : `${count} labelled ${(target.labels ?? []).join(", ")}`;
}

function isIn(agent: Agent): boolean {
  return agent.disabled_at === null;
}
