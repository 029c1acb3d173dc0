import { expect, test } from "vitest";

import { clockTime, dayOf, namedTime } from "./times.ts";

/** A local time. */
function at(text: string): number {
  return new Date(text).getTime() / 1000;
}

const LATEST = at("2026-11-28T16:00:30");

test.each([
  ["15:40", "2026-11-28T15:40:00"],
  [" 15:40:02 ", "2026-11-28T15:40:02"],
  ["16:00:30", "2026-11-28T16:00:30"],
  ["16:00:31", "2026-11-27T16:00:31"],
  ["9:05", "2026-11-28T09:05:00"],
  ["-5m", "2026-11-28T15:55:30"],
  ["-2h", "2026-11-28T14:00:30"],
  ["-30 S", "2026-11-28T16:00:00"],
  ["-1d", "2026-11-27T16:00:30"],
  ["2026-11-27", "2026-11-27T00:00:00"],
  ["2026-11-27 15:40", "2026-11-27T15:40:00"],
  ["2026-11-27T15:40:02", "2026-11-27T15:40:02"],
])("%s is %s", (text, expected) => {
  expect(namedTime(text, LATEST)).toBe(at(expected));
});

test.each(["", "now", "24:00", "15:60", "5m", "2026-02-30", "2026-13-01", "15.40"])("%s names no time", (text) => {
  expect(namedTime(text, LATEST)).toBeNull();
});

test("a time before another is counted from the present place", () => {
  expect(namedTime("-5m", LATEST, at("2026-11-28T10:05:00"))).toBe(at("2026-11-28T10:00:00"));
});

test("times are written in the browser's time zone", () => {
  expect(clockTime(at("2026-11-08T05:04:03"))).toBe("05:04:03");
  expect(dayOf(at("2026-11-08T05:04:03"))).toBe("8 Nov");
});
