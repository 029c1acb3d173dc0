import { expect, test } from "vitest";

import { ago, atLeast, bytes, counted, duration, elapsed, firstLine, localTime, dollars } from "./format.ts";

test.each([
  [-5, "0.0 s"],
  [449, "0.4 s"],
  [9949, "9.9 s"],
  [12_999, "12 s"],
  [185_000, "3 m 05 s"],
  [7_440_000, "2 h 04 m"],
  [273_600_000, "3 d 4 h"],
])("%i ms last %s", (milliseconds, text) => expect(duration(milliseconds)).toBe(text));

test("an elapsed time has whole seconds", () => {
  expect([elapsed(900), elapsed(9_999), elapsed(61_000)]).toEqual(["0 s", "9 s", "1 m 01 s"]);
});

test.each([
  [0, "now"],
  [12_000, "12 s ago"],
  [180_000, "3 m ago"],
  [7_200_000, "2 h ago"],
  [400_000_000, "4 d ago"],
])("%i ms ago is %s", (milliseconds, text) => expect(ago(milliseconds)).toBe(text));

test.each([
  [1, "1 byte"],
  [812, "812 bytes"],
  [1536, "1.5 KiB"],
  [20 * 1024 * 1024, "20 MiB"],
])("%i bytes read %s", (count, text) => expect(bytes(count)).toBe(text));

test("a text of several lines is shown by its first", () => {
  expect(firstLine("  make\n\ntest")).toBe("make …");
  expect(firstLine("make ")).toBe("make");
});

test("a count has its noun", () => {
  expect([counted(1, "process", "processes"), counted(3, "process", "processes")]).toEqual(["1 process", "3 processes"]);
});

test("a time has the format of a datetime-local field", () => {
  expect(localTime(new Date(2026, 0, 31, 9, 5))).toBe("2026-01-31T09:05");
});

test.each([
  [0, "$0.00"],
  [0.00004217, "$0.000042"],
  [0.0042, "$0.0042"],
  [1e-9, "under $0.000001"],
  [0.00999, "$0.010"],
  [0.01, "$0.01"],
  [1.5, "$1.50"],
])("a cost of %d is %s: one below a cent is not nothing", (cost, shown) => {
  expect(dollars(cost)).toBe(shown);
});

test("tokens that are the least that was used are marked", () => {
  expect([atLeast(true), atLeast(false), atLeast(undefined)]).toEqual(["≥", "", ""]);
});
