import { Terminal } from "@xterm/headless";
import { expect, test } from "vitest";

import { LineTimes, MOST_SECONDS, type Emulator } from "./line-times.ts";

type Step = string | number | { columns: number };

/** Writes texts to an emulator of 20 × 5, numbers being the seconds of the texts after them; the time of each line. */
async function timesOf(steps: Step[], scrollback = 100): Promise<[string, number | null][]> {
  const { terminal, times } = await written(steps, scrollback);
  const buffer = terminal.buffer.active;
  const found: [string, number | null][] = [];
  for (let y = 0; y < times.end; y++) {
    const line = buffer.getLine(y);
    if (line?.isWrapped === false) found.push([line.translateToString(true), times.at(y)]);
  }
  return found;
}

async function written(steps: Step[], scrollback = 100) {
  const terminal = new Terminal({ cols: 20, rows: 5, scrollback, allowProposedApi: true });
  const times = new LineTimes(terminal as unknown as Emulator); // its types differ from the page's in no method that is used
  for (const step of steps) {
    if (typeof step === "number") times.stamp(step);
    else if (typeof step === "object") {
      times.settle();
      terminal.resize(step.columns, 5);
    }
    else await new Promise<void>((done) => terminal.write(step, done));
  }
  return { terminal, times };
}

test.each<[string, Step[], [string, number | null][]]>([
  ["each line has the second of its first byte", [7, "a\r\nb", 8, "b\r\nc\r\n", 9, "d"], [["a", 7], ["bb", 7], ["c", 8], ["d", 9]]],
  ["lines before the first known time have none", ["a\r\n", 7, "b"], [["a", null], ["b", 7]]],
  ["lines of unknown time have none", [7, "a\r\n", 0, "b\r\n", 8, "c"], [["a", 7], ["b", null], ["c", 8]]],
  ["a line that is written again keeps its time", [7, "a\r\n10 %", 8, "\r20 %", 9, "\r30 %\r\n"], [["a", 7], ["30 %", 7]]],
  ["a line among others that is erased keeps its time, as they do", [7, "a\r\nb\r\nc\r\n", 8, "\x1b[2A\x1b[2Kx\x1b[2B\r", 9, "d"], [["a", 7], ["x", 7], ["c", 7], ["d", 9]]],
  ["lines that are erased from the end get the time of what is written next", [7, "a\r\nb\r\nc", 8, "\x1b[2K\x1b[A\x1b[2K\rx\r\ny"], [["a", 7], ["x", 8], ["y", 8]]],
  ["a cleared screen begins with the present time", [7, "a\r\nb\r\nc", 8, "\x1b[2J\x1b[Hx\r\ny"], [["x", 8], ["y", 8]]],
  ["the end of the screen is erased", [7, "a\r\nb\r\nc", 8, "\x1b[A\r\x1b[Jx\r\ny"], [["a", 7], ["x", 8], ["y", 8]]],
  ["a clock that was set back", [8, "a\r\n", 7, "b\r\n", 9, "c"], [["a", 8], ["b", 7], ["c", 9]]],
  ["a full-screen program changes no time", [7, "a\r\n", "\x1b[?1049h", 8, "\x1b[2J\x1b[Hfull\r\nscreen", 9, "\x1b[?1049lb"], [["a", 7], ["b", 9]]],
  ["a narrower terminal wraps the lines", [7, "0123456789abcdef\r\n", 8, "b\r\n", 9, "c", { columns: 6 }], [["012345", 7], ["b", 8], ["c", 9]]],
  ["erased lines after a wrapped one", [7, "0123456789abcdefghijklmn\r\nx", 8, "\r\x1b[Jb", { columns: 40 }], [["0123456789abcdefghijklmn", 7], ["b", 8]]],
  ["a wider terminal joins the rows of a line", [7, "0123456789abcdefghijklmn\r\n", 8, "b\r\n", 9, "c", { columns: 40 }], [["0123456789abcdefghijklmn", 7], ["b", 8], ["c", 9]]],
])("%s", async (_, steps, expected) => {
  expect(await timesOf(steps)).toEqual(expected);
});

test("times leave with the scrollback, and the lines of a second stay of that second", async () => {
  const steps: Step[] = [];
  for (let second = 1; second <= 30; second++) steps.push(second, `${second}a\r\n${second}b\r\n${second}c\r\n`);
  const found = await timesOf(steps, 10);
  expect(found).toHaveLength(14); // the cursor's line has no text yet
  for (const [text, second] of found) expect(second).toBe(Number.parseInt(text));
});

test("a flood of one second has its time after its first line has left", async () => {
  const found = await timesOf([7, "before\r\n", 8, "line\r\n".repeat(50)], 10);
  expect(new Set(found.map(([, second]) => second))).toEqual(new Set([8]));
});

test("memory is bounded: each line has a time, those of older lines are about right and say so, the newest are exact", async () => {
  const steps: Step[] = [];
  const last = MOST_SECONDS + 10;
  for (let second = 1; second <= last; second++) steps.push(second, `${second}\r\n`);
  const { times } = await written(steps, 10_000);
  for (let line = 0; line < last; line++) {
    const second = times.at(line) ?? 0;
    expect(line + 1 - second).toBeGreaterThanOrEqual(0);
    expect(line + 1 - second).toBeLessThan(4);
    if (second !== line + 1) expect(times.isAbout(line)).toBe(true);
    if (line >= last - MOST_SECONDS / 2) expect(times.isAbout(line)).toBe(false);
  }
  expect(times.isAbout(1)).toBe(true);
});

test("a time that is not exact is one of those lines alone", async () => {
  const { times } = await written([]);
  times.stamp(7, true);
  expect([times.at(0), times.isAbout(0)]).toEqual([7, true]);
  times.clear();
  times.stamp(7);
  expect([times.at(0), times.isAbout(0)]).toEqual([7, false]);
});

test("a time leads to the first line of it or after it", async () => {
  const { times } = await written([100, "a\r\nb\r\n", 110, "c\r\n", 120, "d\r\n"]);
  expect([90, 100, 101, 110, 111, 120, 121].map((second) => times.lineAt(second))).toEqual([0, 0, 2, 2, 3, 3, null]);
  expect(times.oldest).toBe(100);
  times.clear();
  expect([times.oldest, times.lineAt(100), times.at(0)]).toEqual([null, null, null]);
});
