import { expect, test } from "vitest";

import { cliName, hue, takesPrompts } from "./kinds.ts";
import type { Agent } from "./rest.ts";

const agent = (kind: Agent["kind"], cli: string | null): Agent => ({ kind, cli }) as Agent;

test("an agent is named by its CLI, and a CLI without a colour has one by its name", () => {
  expect(cliName(agent("claude", null))).toBe("claude");
  expect(cliName(agent("acp", "opencode"))).toBe("opencode");
  const hues = ["opencode", "copilot", "qwen", "goose"].map((name) => hue(agent("acp", name)));
  expect(new Set(hues).size).toBe(hues.length);
  expect(hues.every((one) => one >= 0 && one < 360)).toBe(true);
  expect(hue(agent("acp", "opencode"))).toBe(hues[0]);
});

test("the agents of all kinds but the shell take prompts", () => {
  expect(takesPrompts(agent("claude", null))).toBe(true);
  expect(takesPrompts(agent("acp", "opencode"))).toBe(true);
  expect(takesPrompts(agent("shell", null))).toBe(false);
});
