import { expect, test } from "vitest";

import { cliName, hue, takesPrompts } from "./kinds.ts";
import type { Agent } from "./rest.ts";

const agent = (kind: Agent["kind"], cli: string | null): Agent => ({ kind, cli }) as Agent;

test("an agent is named by its CLI, and a CLI without a colour has one by its name", () => {
  expect(cliName(agent("claude", null))).toBe("claude");
  expect(cliName(agent("acp", "opencode"))).toBe("opencode");
  expect(hue(agent("acp", "opencode"))).toBe(hue(agent("acp", "opencode")));
});

test("the agents of all kinds but the shell take prompts", () => {
  expect(takesPrompts(agent("claude", null))).toBe(true);
  expect(takesPrompts(agent("acp", "opencode"))).toBe(true);
  expect(takesPrompts(agent("shell", null))).toBe(false);
});

test("the colours of CLIs are apart from each other and from those of the kinds", () => {
  const known = ["opencode", "copilot", "qwen", "goose", "grok", "claude-agent-acp", "codex-acp"];
  const others = Array.from({ length: 300 }, (_, number) => `cli-${number}`);
  const hues = known.map((name) => hue(agent("acp", name)));
  hues.forEach((one, at) => hues.slice(0, at).forEach((other) => expect(Math.abs(one - other)).toBeGreaterThan(15)));
  for (const one of [...hues, ...others.map((name) => hue(agent("acp", name)))]) {
    for (const taken of [150, 260, 340]) expect(Math.abs(one - taken)).toBeGreaterThanOrEqual(25);
  }
});
