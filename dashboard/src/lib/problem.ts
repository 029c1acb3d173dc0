import type { Agent } from "./rest.ts";

/** An agent that is online and takes no command, for example because its disk is full. */
export type TroubledAgent = Agent & { problem: string; problem_since: string };

export function hasProblem(agent: Agent): agent is TroubledAgent {
  return agent.status === "online" && agent.disabled_at === null && agent.problem !== null;
}
