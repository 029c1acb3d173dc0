import { describe, expect, it } from "vitest";

import type { UsageGroup } from "./rest.ts";
import { firstDay, perDay, short } from "./usage.ts";

function day(key: string, tokens: number, cost: number | null): UsageGroup {
  const none = { cache_read_tokens: 0, cache_write_tokens: 0, estimated_usd: 0, unpriced_tokens: 0, partial_turns: 0, turns: 1 };
  return { ...none, key, name: key, input_tokens: tokens, output_tokens: 1, cost_usd: cost };
}

describe("perDay", () => {
  it("has every day of the period once, also one without turns and over a change of the clocks", () => {
    const now = new Date(2026, 3, 2, 12);
    const since = firstDay(7, now);
    const groups = [day("2026-03-28", 10, 0.5), day("2026-04-02", 20, null)];
    const [days, tokens] = perDay(groups, since, "tokens", now);
    expect(days.map((at) => new Date(at * 1000).getDate())).toEqual([27, 28, 29, 30, 31, 1, 2]);
    expect(tokens).toEqual([0, 11, 0, 0, 0, 0, 21]);
    expect(perDay(groups, since, "cost", now)[1]).toEqual([0, 0.5, 0, 0, 0, 0, 0]);
  });
});

describe("short", () => {
  it("has three digits and a unit", () => {
    expect([0, 7, 950, 999.6, 12_345, 4_567_000, 2 ** 53].map(short)).toEqual(["0", "7", "950", "1k", "12.3k", "4.57M", "9.01P"]);
  });
});
