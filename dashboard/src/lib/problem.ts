import type { Agent } from "./rest.ts";

/** An agent that is online and takes no command, for example because its disk is full. */
export type TroubledAgent = Agent & { problem: string; problem_since: string };

/** An agent that waits, because it has reached a usage limit of its CLI's vendor. */
export type LimitedAgent = Agent & { limited_until: string };

export function isLimited(agent: Agent): agent is LimitedAgent {
  return agent.limited_until !== null;
}

export function hasProblem(agent: Agent): agent is TroubledAgent {
  return agent.status === "online" && agent.disabled_at === null && agent.problem !== null;
}
