import { describe, expect, test } from "vitest";

import { limitsName, parse, parseSpan, typed, writeSpan } from "./limits.ts";

describe("durations", () => {
  test.each([
    ["90", 90],
    ["90s", 90],
    ["30m", 1800],
    ["1.5h", 5400],
    [" 2 d ", 172_800],
    ["soon", null],
    ["-5", null],
    ["", null],
  ])("%j is %s seconds", (text, seconds) => expect(parseSpan(text)).toBe(seconds));

  test.each([
    [90, "90s"],
    [1800, "30m"],
    [5400, "90m"],
    [86_400, "1d"],
    [1.5, "1.5s"],
  ])("%s seconds are %j", (seconds, text) => {
    expect(writeSpan(seconds)).toBe(text);
    expect(parseSpan(text)).toBe(seconds);
  });
});

describe("a form", () => {
  const limits = { work_seconds: 7200, tokens: 5000, cost_usd: 2.5 };

  test("has the limits that it was filled with", () => {
    expect(parse(typed(limits))).toEqual({ limits, wrong: null });
    expect(parse(typed({}))).toEqual({ limits: {}, wrong: null });
  });

  test.each([
    ["work_seconds", "0"],
    ["idle_seconds", "a while"],
    ["waiting_seconds", "overnight"],
    ["tokens", "1.5"],
    ["cost_usd", "0"],
  ] as const)("names the invalid field: %s of %j", (name, text) => {
    expect(parse({ ...typed(limits), [name]: text }).wrong).toBe(name);
  });

  test("accepts thousands separators", () => {
    expect(parse({ ...typed({}), tokens: "200,000" }).limits).toEqual({ tokens: 200_000 });
  });
});

test("limits as text", () => {
  expect(limitsName({ work_seconds: 7200, idle_seconds: 600, waiting_seconds: 28_800, tokens: 200_000, cost_usd: 2.5 })).toBe(
    "2h, 10m without output, 8h without an answer, 200,000 tokens, $2.50",
  );
  expect(limitsName({})).toBe("");
});
