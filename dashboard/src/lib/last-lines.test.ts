import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { LastLines, type Progress } from "./last-lines.svelte.ts";

function progress(fields: Partial<Progress>): Progress {
  return { command_id: "c1", agent_id: "a", kind: "output", name: "", title: "", ...fields };
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test("changes are shown together, of each command the newest one", () => {
  const lines = new LastLines();
  for (let n = 1; n <= 100; n += 1) lines.change(progress({ title: `line ${n}` }));
  lines.change(progress({ agent_id: "b", command_id: "c2", kind: "tool", name: "Bash", title: "npm test" }));
  expect(lines.of("a", "c1")).toBeNull();
  vi.advanceTimersByTime(250);
  expect([lines.of("a", "c1"), lines.of("b", "c2"), lines.of("a", "c2")]).toEqual(["line 100", "Bash npm test", null]);
  lines.change(progress({ kind: "result", title: "" }));
  vi.advanceTimersByTime(250);
  expect(lines.of("a", "c1")).toBe("line 100");
});

test("a command that was read keeps its line while a later one runs, until it is forgotten", () => {
  const lines = new LastLines();
  lines.took({ c1: "old", c0: "older" });
  lines.change(progress({ title: "new" }));
  lines.change(progress({ command_id: "c2", title: "of the next" }));
  vi.advanceTimersByTime(250);
  expect(["c0", "c1", "c2"].map((id) => lines.of("a", id))).toEqual(["older", "new", "of the next"]);
  lines.forget(new Set(["c1"]));
  lines.forgetAgent("a");
  expect(["c0", "c1", "c2"].map((id) => lines.of("a", id))).toEqual([null, "new", null]);
});
