import { describe, expect, test } from "vitest";

import { limitsName, read, readSpan, typed, writeSpan } from "./limits.ts";

describe("spans of time", () => {
  test.each([
    ["90", 90],
    ["90s", 90],
    ["30m", 1800],
    ["1.5h", 5400],
    [" 2 d ", 172_800],
    ["soon", null],
    ["-5", null],
    ["", null],
  ])("%j is %s seconds", (text, seconds) => expect(readSpan(text)).toBe(seconds));

  test.each([
    [90, "90s"],
    [1800, "30m"],
    [5400, "90m"],
    [86_400, "1d"],
    [1.5, "1.5s"],
  ])("%s seconds are %j", (seconds, text) => {
    expect(writeSpan(seconds)).toBe(text);
    expect(readSpan(text)).toBe(seconds);
  });
});

describe("a form", () => {
  const limits = { wall_seconds: 7200, tokens: 5000, cost_usd: 2.5 };

  test("says what it was filled with", () => {
    expect(read(typed(limits))).toEqual({ limits, wrong: null });
    expect(read(typed({}))).toEqual({ limits: {}, wrong: null });
  });

  test.each([
    ["wall_seconds", "0"],
    ["idle_seconds", "a while"],
    ["tokens", "1.5"],
    ["cost_usd", "0"],
  ] as const)("names what is wrong: %s of %j", (name, text) => {
    expect(read({ ...typed(limits), [name]: text }).wrong).toBe(name);
  });

  test("takes numbers as people write them", () => {
    expect(read({ ...typed({}), tokens: "200,000" }).limits).toEqual({ tokens: 200_000 });
  });
});

test("limits in words", () => {
  expect(limitsName({ wall_seconds: 7200, idle_seconds: 600, tokens: 200_000, cost_usd: 2.5 })).toBe(
    "2h, 10m silent, 200,000 tokens, $2.5",
  );
  expect(limitsName({})).toBe("");
});
