import { expect, test } from "vitest";

import { hasProblem } from "./problem.ts";
import type { Agent } from "./rest.ts";

test("only an agent that is online and enabled has a problem to show", () => {
  const agent = { status: "online", disabled_at: null, problem: "full", problem_since: "2026-01-01T00:00:00Z" } as Agent;
  expect(hasProblem(agent)).toBe(true);
  expect(hasProblem({ ...agent, problem: null, problem_since: null })).toBe(false);
  expect(hasProblem({ ...agent, status: "offline" })).toBe(false);
  expect(hasProblem({ ...agent, disabled_at: "2026-01-01T00:00:00Z" })).toBe(false);
});
