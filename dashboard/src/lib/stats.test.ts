import { describe, expect, test } from "vitest";

import { frame, inWords, latest, levels, nearest, path, peak, percent, quantile, quantiles, rates, Readings, sizeRate, time } from "./stats.ts";
import type { Statistics } from "./rest.ts";

function statistics(at: number, fields: Partial<Statistics> = {}): Statistics {
  const none = { bounds: [0.001, 0.01], counts: [0, 0, 0] };
  return { instances: ["one"], at, agents: 0, terminal_bytes: 0, relay: none, ...fields } as Statistics;
}

function values(points: { value: number | null }[]): (number | null)[] {
  return points.map(({ value }) => value);
}

describe("readings", () => {
  test("are kept for ten minutes", () => {
    const readings = new Readings();
    for (let at = 0; at <= 1000; at += 2) readings.add(statistics(at));
    expect(readings.all.length).toBe(301);
    expect(readings.all[0]?.at).toBe(400);
  });

  test("start again with other instances", () => {
    const readings = new Readings();
    readings.add(statistics(10));
    readings.add(statistics(8, { instances: ["one", "two"] }));
    expect(readings.all.map(({ instances }) => instances)).toEqual([["one", "two"]]);
  });

  test("that arrive late are dropped", () => {
    const readings = new Readings();
    for (const at of [10, 12, 11, 12]) readings.add(statistics(at));
    expect(readings.all.map(({ at }) => at)).toEqual([10, 12]);
  });
});

describe("points", () => {
  const all = [0, 2, 4, 6, 30, 32].map((at) => statistics(at, { agents: at, terminal_bytes: at * at }));

  test("a level has the values that were read", () => {
    expect(values(levels(all, (f) => f.agents))).toEqual([0, 2, 4, 6, 30, 32]);
    expect(latest(levels([], (f) => f.agents))).toBeNull();
  });

  test("a rate is per second, and null across a pause between readings", () => {
    expect(values(rates(all, (f) => f.terminal_bytes, 2))).toEqual([null, 2, 6, 10, null, 62]);
  });

  test("a rate over a longer window uses the readings that exist", () => {
    expect(values(rates(all, (f) => f.terminal_bytes, 60))).toEqual([null, 2, 4, 6, null, 62]);
  });

  test("a rate of missing values is null", () => {
    expect(values(rates(all, () => null, 60))).toEqual([null, null, null, null, null, null]);
  });

  test("a quantile covers the time between two readings", () => {
    const measured = [
      statistics(0, { relay: { bounds: [0.001, 0.01], counts: [100, 100, 100] } }),
      statistics(2, { relay: { bounds: [0.001, 0.01], counts: [100, 110, 110] } }),
      statistics(4, { relay: { bounds: [0.001, 0.01], counts: [100, 110, 110] } }),
    ];
    const found = values(quantiles(measured, (f) => f.relay, 0.5, 2));
    expect(found[1]).toBeCloseTo(0.0055);
    expect(found).toEqual([null, found[1], null]);
  });

  test("the peak, and the point under the pointer", () => {
    const points = levels(all, (f) => (f.at === 32 ? null : f.agents));
    expect(peak(points)).toBe(30);
    expect(peak([])).toBeNull();
    expect(nearest(points, 5.5)?.at).toBe(6);
    expect(nearest(points, 100)?.at).toBe(30);
    expect(nearest([], 1)).toBeNull();
  });

  test("a line leaves gaps, ends at the right, and can be an area", () => {
    const points = [0, 2, 30].map((at) => ({ at, value: at }));
    const shown = frame([points]);
    expect(shown).toEqual({ start: -30, end: 30, top: 30 });
    expect(path(points, shown)).toBe("M50 1L53.33 0.9333M100 0h-0.5");
    expect(path(points.slice(0, 2), shown, true)).toBe("M50 1L50 1L53.33 0.9333L53.33 1Z");
    expect(path([{ at: 1, value: null }], shown)).toBe("");
    expect(frame([[{ at: 0, value: null }, { at: 300, value: null }], [{ at: 0, value: 7 }]])).toEqual({ start: 0, end: 300, top: 7 });
  });
});

describe("a quantile", () => {
  test.each([
    [[0, 0, 0], 0.5, null],
    [[10, 10, 10], 0.5, 0.5],
    [[0, 10, 10], 0.5, 1.5],
    [[0, 0, 10], 0.99, 2],
    [[5, 10, 10], 0.99, 1.98],
    [[5, 10, 10], 0, 0],
  ])("of %j at %d is %d", (counts, q, expected) => {
    const found = quantile([1, 2], counts, q);
    if (expected === null) expect(found).toBeNull();
    else expect(found).toBeCloseTo(expected);
  });
});

test("values have units", () => {
  expect(inWords(sizeRate(812.4))).toBe("812 B/s");
  expect(inWords(sizeRate(1_500_000))).toBe("1.4 MiB/s");
  expect(inWords(time(0.00012))).toBe("0.12 ms");
  expect(inWords(time(0.0042))).toBe("4.2 ms");
  expect(inWords(time(0.42))).toBe("420 ms");
  expect(inWords(time(1.25))).toBe("1.3 s");
  expect(inWords(percent(0.034))).toBe("3.4 %");
});
