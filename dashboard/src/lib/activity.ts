import { hasProblem, isLimited } from "./problem.ts";
import { AGENT_ACTIVITIES, type AgentActivity } from "./protocol.ts";
import type { Agent } from "./rest.ts";

/** What an agent does at present, as `activity` of the REST API says it: of what applies, the first counts. */
export function activityOf(agent: Agent, now: { halted: boolean; waits: boolean; works: boolean }): AgentActivity {
  const applies: Record<AgentActivity, boolean> = {
    offline: agent.status === "offline",
    halted: now.halted,
    waiting: now.waits,
    working: now.works,
    problem: hasProblem(agent),
    paused: agent.paused_at !== null,
    limited: isLimited(agent),
    idle: true,
  };
  return AGENT_ACTIVITIES.find((name) => applies[name]) ?? "idle";
}
