import { describe, expect, test } from "vitest";

import type { CommandState } from "./protocol.ts";
import type { Agent, Command } from "./rest.ts";
import { byQueue, completed, isStaleAgent, isStaleCommand } from "./rows.ts";

export function command(fields: Partial<Command> = {}): Command {
  return {
    id: "c1",
    seq: 1,
    agent_id: "a1",
    text: "make",
    priority: 5,
    state: "queued",
    requested_by: null,
    requested_by_name: "",
    created_at: "2026-01-01T00:00:00+00:00",
    dispatched_at: null,
    started_at: null,
    ended_at: null,
    cancel_requested_at: null,
    cancel_requested_by: null,
    cancel_reason: null,
    cancel_step: null,
    exit_code: null,
    signal: null,
    error: null,
    stream_id: null,
    output_start: null,
    output_end: null,
    usage: null,
    job_id: null,
    delivery_attempts: 0,
    group_id: null,
    position: null,
    revision: 0,
    note: "",
    tags: [],
    preset: null,
    request_id: null,
    limits: {},
    limit_passed: null,
    conversation_id: null,
    turn: null,
    denied: 0,
    denials: [],
    steers: null,
    steer_state: null,
    steer_step: null,
    continues: null,
    ...fields,
  };
}

function agent(fields: Partial<Agent>): Agent {
  return { id: "a1", epoch: 1, status: "online", ...fields } as Agent;
}

const LATER = "2026-01-01T00:00:02+00:00";
const DISPATCHED = "2026-01-01T00:00:01+00:00";

describe("a command", () => {
  const life: Command[] = [
    command(),
    command({ state: "dispatched", dispatched_at: DISPATCHED }),
    command({ state: "dispatched", dispatched_at: DISPATCHED, delivery_attempts: 1 }),
    command({ state: "queued", dispatched_at: DISPATCHED, delivery_attempts: 1 }),
    command({ state: "dispatched", dispatched_at: LATER, delivery_attempts: 1 }),
    command({ state: "running", dispatched_at: LATER, delivery_attempts: 1 }),
    command({ state: "running", dispatched_at: LATER, delivery_attempts: 1, cancel_requested_at: LATER }),
    command({
      state: "running",
      dispatched_at: LATER,
      delivery_attempts: 1,
      cancel_requested_at: LATER,
      cancel_step: { step: "sigint", at: LATER, processes_left: 2, pids: [] },
    }),
    command({ state: "cancelled", dispatched_at: LATER, delivery_attempts: 1, cancel_requested_at: LATER }),
  ];

  test("accepts each later version of its row and rejects each earlier one", () => {
    for (const [i, known] of life.entries())
      for (const [j, candidate] of life.entries()) {
        expect(isStaleCommand(known, candidate), `${i} → ${j}`).toBe(j < i);
      }
  });

  test("never leaves a final state", () => {
    const states: CommandState[] = ["queued", "dispatched", "running", "succeeded", "failed", "lost"];
    for (const state of states) expect(isStaleCommand(command({ state: "timed_out" }), command({ state }))).toBe(true);
  });

  test("accepts later additions to its row after its end", () => {
    expect(isStaleCommand(command({ state: "failed" }), command({ state: "failed", output_end: 9 }))).toBe(false);
  });

  test("keeps its text when a change leaves it out", () => {
    const { text: _, ...record } = command({ state: "running" });
    expect(completed(command(), record)).toMatchObject({ state: "running", text: "make" });
    expect(completed(command(), { ...record, text: null as unknown as string })).toMatchObject({ text: "make" });
  });

  test("cannot be completed without a known row", () => {
    expect(completed(undefined, { id: "c1", state: "running" })).toBeNull();
  });
});

test("an agent's older epoch is stale, and so is an online row from before its disconnect", () => {
  expect(isStaleAgent(agent({ epoch: 3 }), agent({ epoch: 2 }))).toBe(true);
  expect(isStaleAgent(agent({ epoch: 2 }), agent({ epoch: 3, status: "offline" }))).toBe(false);
  expect(isStaleAgent(agent({ status: "offline" }), agent({ status: "online" }))).toBe(true);
  expect(isStaleAgent(agent({ status: "online" }), agent({ status: "offline" }))).toBe(false);
  expect(isStaleAgent(agent({ columns: 80 }), agent({ columns: 100 }))).toBe(false);
});

test("the queue runs by priority, then by age", () => {
  const line = [command({ seq: 1, priority: 5 }), command({ seq: 2, priority: 1 }), command({ seq: 3, priority: 1 })];
  expect(line.sort(byQueue).map((c) => c.seq)).toEqual([2, 3, 1]);
});

test("a moved command keeps its new place, and an edit is newer than the row before it", () => {
  const line = [command({ seq: 1 }), command({ seq: 2 }), command({ seq: 9, position: 1.5, revision: 1 })];
  expect(line.sort(byQueue).map((c) => c.seq)).toEqual([1, 9, 2]);
  const ended = command({ state: "failed" });
  const noted = command({ state: "failed", revision: 1, note: "flaky" });
  expect(isStaleCommand(noted, ended)).toBe(true);
  expect(isStaleCommand(ended, noted)).toBe(false);
});
