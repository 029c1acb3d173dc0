import { expect, test } from "vitest";

import { addressQuery, commandQuery, filterOf, groupProgress, groupTarget } from "./history.ts";
import type { Agent, GroupSummary } from "./rest.ts";

const AGENTS = [{ id: "a1", name: "one" } as Agent];

test("the address holds the filter, and the API query follows it", () => {
  const filter = filterOf(new URLSearchParams("q=make%20all&agent=one&state=failed,lost&since=1d"));
  expect(addressQuery(filter).toString()).toBe("q=make+all&agent=one&state=failed%2Clost&since=1d");
  expect(commandQuery(filter, AGENTS, Date.parse("2026-01-02T00:00:00Z"))).toEqual({
    agent_id: "a1",
    state: "failed,lost",
    q: "make all",
    since: "2026-01-01T00:00:00.000Z",
    group_id: null,
    tag: null,
    by: null,
  });
  expect(commandQuery({ ...filter, agent: "gone" }, AGENTS, 0)).toBeNull();
});

test("a group has its progress and its target as text", () => {
  const group = { counts: { succeeded: 2, failed: 1, running: 2 }, target: { labels: ["eu"] } } as unknown as GroupSummary;
  expect(groupProgress(group)).toEqual({
    ended: 3,
    total: 5,
    text: "3 of 5 commands ended: 2 succeeded, 1 failed, 2 running",
  });
  expect(groupTarget(group)).toBe("agents labelled eu");
  expect(groupTarget({ ...group, target: { agents: ["a", "b"] } })).toBe("a, b");
});
