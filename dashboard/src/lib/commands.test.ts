import { expect, test } from "vitest";

import { cancelProgress, History, outcome, ran } from "./commands.ts";
import type { Command } from "./rest.ts";

function command(fields: Partial<Command>): Command {
  const row = { state: "running", cancel_requested_at: null, cancel_step: null, exit_code: null, signal: null };
  return { ...row, started_at: null, ended_at: null, ...fields } as Command;
}

test("a cancellation has its progress as text", () => {
  const asked = { cancel_requested_at: "2026-01-01T00:00:00Z" };
  const at = { at: "2026-01-01T00:00:01Z", pids: [] };
  expect(cancelProgress(command({}))).toBeNull();
  expect(cancelProgress(command(asked))).toBe("cancel requested");
  expect(cancelProgress(command({ ...asked, cancel_step: { ...at, step: "sigterm", processes_left: 3 } }))).toBe(
    "SIGTERM sent, 3 processes left",
  );
  expect(cancelProgress(command({ cancel_step: { ...at, step: "sigterm", processes_left: 2, limit: "tokens" } }))).toBe(
    "limit exceeded: SIGTERM sent, 2 processes left",
  );
  expect(cancelProgress(command({ ...asked, cancel_step: { ...at, step: "sigkill", processes_left: 1 } }))).toBe(
    "SIGKILL sent, 1 process left",
  );
  expect(cancelProgress(command({ ...asked, cancel_step: { ...at, step: "interrupt", processes_left: 0 } }))).toBe(
    "interrupt sent",
  );
});

test("the exit code 0 of a successful command is left out", () => {
  expect(outcome(command({ state: "succeeded", exit_code: 0 }))).toBeNull();
  expect(outcome(command({ state: "failed", exit_code: 2 }))).toBe("exit 2");
  expect(outcome(command({ state: "cancelled", exit_code: 0 }))).toBe("exit 0");
  expect(outcome(command({ state: "failed", signal: 9 }))).toBe("SIGKILL");
  expect(outcome(command({ state: "failed", signal: 35 }))).toBe("signal 35");
});

test("the run time of a running command ends now", () => {
  const started = { started_at: "2026-01-01T00:00:00Z" };
  const now = Date.parse("2026-01-01T00:01:00Z");
  expect(ran(command({}), now)).toBeNull();
  expect(ran(command(started), now)).toBe(60_000);
  expect(ran(command({ ...started, ended_at: "2026-01-01T00:00:02Z" }), now)).toBe(2_000);
});

test("history goes back through sent texts and forward to the draft", () => {
  const history = new History(["one", "two"]);
  history.add("two");
  expect(history.older("dra")).toBe("two");
  expect(history.older("two")).toBe("one");
  expect(history.older("one")).toBeNull();
  expect(history.newer()).toBe("two");
  expect(history.newer()).toBe("dra");
  expect(history.newer()).toBeNull();
});
