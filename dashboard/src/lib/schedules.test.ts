import { expect, it } from "vitest";

import type { Agent, ScheduleRun } from "./rest.ts";
import { resultName, ruleName, targetChoices } from "./schedules.ts";

const agents = [
  { id: "1", name: "one", labels: ["eu"], disabled_at: null },
  { id: "2", name: "two", labels: [], disabled_at: "2026-01-01" },
] as unknown as Agent[];

function run(counts: Record<string, number>, error: string | null = null, skipped: string[] = []): ScheduleRun {
  return { due_at: "", ran_at: "", command_id: null, group_id: null, error, skipped, counts };
}

it("offers the targets of a schedule, its present target included", () => {
  const known = targetChoices(agents, { agents: ["one"] }).map(([label]) => label);
  expect(known).toEqual(["one", "all labelled eu", "all agents"]);
  expect(targetChoices(agents, { agents: ["one", "gone"] })[0]?.[0]).toBe("one, gone");
});

it("names the rule and the result of a run", () => {
  expect(ruleName({ cron: "0 6 * * *", time_zone: "UTC" })).toBe("every day at 6:00, UTC");
  expect(ruleName({ cron: "1 2 3 4 *", time_zone: "UTC" })).toBe("1 2 3 4 *, UTC");
  expect(ruleName({ cron: null, time_zone: "UTC" })).toBe("once");
  expect(resultName(run({ timed_out: 1 }))).toBe("limit exceeded");
  expect(resultName(run({ succeeded: 2, failed: 1 }))).toBe("2 succeeded, 1 failed");
  expect(resultName(run({}, "There is no agent."))).toBe("There is no agent.");
  expect(resultName(run({}, null, ["one", "two"]))).toBe("skipped one, two: the previous command is still queued");
  expect(resultName(run({ failed: 1 }, null, ["one"]))).toBe("failed, skipped one: the previous command is still queued");
});
