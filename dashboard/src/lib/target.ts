import { counted } from "./format.ts";
import type { Agent, Target } from "./rest.ts";

/** The labels of enabled agents by name, each with its number of agents. */
export function labelsOf(agents: Agent[]): [label: string, count: number][] {
  const counts = new Map<string, number>();
  for (const label of agents.filter(isEnabled).flatMap((agent) => agent.labels)) counts.set(label, (counts.get(label) ?? 0) + 1);
  return [...counts].sort(([a], [b]) => a.localeCompare(b));
}

/** The agents of a target, as far as the page knows them; the server decides. */
export function agentsOf(target: Target, agents: Agent[]): Agent[] {
  const { agents: named, labels } = target;
  return agents.filter(
    (agent) =>
      isEnabled(agent) &&
      (target.all === true ||
        named?.some((name) => name === agent.name || name === agent.id) === true ||
        labels?.every((label) => agent.labels.includes(label)) === true),
  );
}

/** A target in words: `all 12 agents`, `builder-1, builder-2`, `3 agents labelled backend, eu`. */
export function targetName(target: Target, agents: Agent[]): string {
  if (target.agents) return target.agents.map((name) => agents.find((agent) => agent.id === name)?.name ?? name).join(", ");
  const count = counted(agentsOf(target, agents).length, "agent");
  return target.all === true ? `all ${count}` : `${count} labelled ${(target.labels ?? []).join(", ")}`;
}

function isEnabled(agent: Agent): boolean {
  return agent.disabled_at === null;
}
