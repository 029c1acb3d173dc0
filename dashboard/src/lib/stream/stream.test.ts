import { describe, expect, test } from "vitest";

import { LineReader } from "./line-reader.ts";
import { merged, MOST_LINES, type Line } from "./merged.svelte.ts";

const CASES: [string, string, string[]][] = [
  ["lines", "one\r\ntwo\nthr", ["one", "two"]],
  ["colours", "\x1b[1;31mred\x1b[0m done\r\n", ["red done"]],
  ["progress that is printed over itself", "10 %\r50 %\r100 %\r\n", ["100 %"]],
  ["an erased line", "working\r\x1b[Kdone\r\n", ["done"]],
  ["backspaces", "abd\bc\n", ["abc"]],
  ["a title", "\x1b]0;title\x07text\n\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", ["text", "link"]],
  ["a device string", "\x1bP1$r0m\x1b\\x\n", ["x"]],
  ["a string that another sequence ends", "\x1b]0;x\x1b[31mred\n", ["red"]],
  ["another character set", "\x1b(Bx\n", ["x"]],
  ["the alternate screen, which has no lines", "a\n\x1b[?1049hscreen\n\x1b[?25l\x1b[?1049lb\n", ["a", "b"]],
  ["empty lines", "\n \n\r\n", []],
  ["characters of several bytes", "über 漢 🙂\n", ["über 漢 🙂"]],
  ["control characters", "a\x00\x07\x7f\x85b\n", ["ab"]],
];

describe("the lines of a terminal", () => {
  test.each(CASES)("%s", (_, text, lines) => {
    expect(new LineReader().read(new TextEncoder().encode(text))).toEqual(lines);
  });

  test.each(CASES)("%s, byte by byte", (_, text, lines) => {
    const reader = new LineReader();
    expect([...new TextEncoder().encode(text)].flatMap((byte) => reader.read(Uint8Array.of(byte)))).toEqual(lines);
  });

  test("a line without an end is cut, and takes no more memory", () => {
    const found = new LineReader().read(new TextEncoder().encode("x".repeat(10_000)));
    expect(found.map(({ length }) => length)).toEqual([2000, 2000, 2000, 2000, 2000]);
  });
});

test("lines are merged by time, those of one time as they came, and only the newest are kept", () => {
  const line = (id: number, at: number): Line => ({ id, at, agentId: "a", text: "" });
  expect(merged([line(0, 10), line(1, 20)], [line(2, 5), line(3, 20), line(4, 15)]).map(({ id }) => id)).toEqual([2, 0, 4, 1, 3]);
  expect(merged([line(0, 10)], [line(1, 10), line(2, 11)]).map(({ id }) => id)).toEqual([0, 1, 2]);
  const many = Array.from({ length: MOST_LINES + 3 }, (_, id) => line(id, id));
  expect(merged([], many)).toHaveLength(MOST_LINES);
  expect(merged([], many).at(-1)?.id).toBe(MOST_LINES + 2);
});
