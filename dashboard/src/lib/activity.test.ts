import { expect, test } from "vitest";

import { activityOf } from "./activity.ts";
import { AGENT_ACTIVITIES, type AgentActivity } from "./protocol.ts";
import type { Agent } from "./rest.ts";

const TIME = "2026-01-01T00:00:00Z";
const ROWS: Partial<Record<AgentActivity, Partial<Agent>>> = {
  offline: { status: "offline" },
  problem: { problem: "full", problem_since: TIME },
  paused: { paused_at: TIME },
  limited: { limited_since: TIME, limited_until: TIME },
};

test("of all that applies, the first activity is the agent's, as the server says it", () => {
  const agent = { status: "online", disabled_at: null, problem: null, paused_at: null, limited_until: null } as Agent;
  for (let set = 0; set < 2 ** AGENT_ACTIVITIES.length; set += 1) {
    const applying = AGENT_ACTIVITIES.filter((_, index) => (set >> index) & 1);
    const row = Object.assign({ ...agent }, ...applying.map((name) => ROWS[name] ?? {})) as Agent;
    const has = (name: AgentActivity): boolean => applying.includes(name);
    const now = { halted: has("halted"), waits: has("waiting"), works: has("working") };
    expect(activityOf(row, now)).toBe(applying[0] ?? "idle");
  }
});
