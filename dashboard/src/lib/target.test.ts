import { expect, test } from "vitest";

import { placeInQueue, wordsOf } from "./commands.ts";
import type { Agent } from "./rest.ts";
import { agentsOf, labelsOf, targetName } from "./target.ts";

function agent(name: string, labels: string[], disabled_at: string | null = null): Agent {
  return { id: name, name, labels, disabled_at } as unknown as Agent;
}

const AGENTS = [agent("a", ["eu", "web"]), agent("b", ["web"]), agent("c", ["eu", "web"], "2026-01-01T00:00:00Z")];

test("a target contains the agents with all of its labels, or all agents, but no disabled agent", () => {
  expect(agentsOf({ labels: ["web"] }, AGENTS).map((found) => found.name)).toEqual(["a", "b"]);
  expect(agentsOf({ labels: ["web", "eu"] }, AGENTS).map((found) => found.name)).toEqual(["a"]);
  expect(agentsOf({ all: true }, AGENTS)).toHaveLength(2);
  expect(targetName({ all: true }, AGENTS)).toBe("all 2 agents");
  expect(targetName({ labels: ["web", "eu"] }, AGENTS)).toBe("1 agent labelled web, eu");
  expect(labelsOf(AGENTS)).toEqual([["eu", 1], ["web", 2]]);
});

test("a place in the queue is an ordinal number", () => {
  expect([0, 1, 2, 3, 10, 11, 12, 20, 110].map((ahead) => placeInQueue(ahead, null))).toEqual([
    "next",
    "2nd",
    "3rd",
    "4th",
    "11th",
    "12th",
    "13th",
    "21st",
    "111th",
  ]);
  expect(placeInQueue(1, 200)).toBe("2nd, in about 3 m 20 s");
  expect(placeInQueue(0, 0)).toBe("next, in about 1 s");
});

test("tags are split at spaces and commas, each once", () => {
  expect(wordsOf(" ci, arm64 ci,,eu ")).toEqual(["ci", "arm64", "eu"]);
});
