import { bytes } from "./format.ts";
import type { Distribution, Statistics } from "./rest.ts";

/** How long readings are kept, in seconds. */
export const KEPT_SECONDS = 600;
/** The shortest time that a plot shows, in seconds: stretched over the whole plot, a few readings would mislead. */
const LEAST_SECONDS = 60;
/** No line is drawn and no rate is calculated across a pause between two readings that is longer, in seconds. */
const GAP_SECONDS = 10;

/** A value at a Unix time in seconds; the value is null where there is none. */
export interface Point {
  at: number;
  value: number | null;
}

/** The readings of the same instances, oldest first. A reading of others, or after a restart, replaces them all. */
export class Readings {
  #all: readonly Statistics[] = [];

  get all(): readonly Statistics[] {
    return this.#all;
  }

  add(statistics: Statistics): void {
    const last = this.#all.at(-1);
    if (last !== undefined && String(last.instances) === String(statistics.instances)) {
      if (statistics.at <= last.at) return; // a newer answer has overtaken this one
      this.#all = [...this.#all.filter(({ at }) => at >= statistics.at - KEPT_SECONDS), statistics];
    } else this.#all = [statistics];
  }
}

/** The values at each time. */
export function levels(readings: readonly Statistics[], pick: (statistics: Statistics) => number | null): Point[] {
  return readings.map((statistics) => ({ at: statistics.at, value: pick(statistics) }));
}

/** The growth per second of a counter in the `over` seconds before each time. */
export function rates(readings: readonly Statistics[], pick: (statistics: Statistics) => number | null, over: number): Point[] {
  return since(readings, over, (before, now) => {
    const [from, to] = [pick(before), pick(now)];
    return from === null || to === null ? null : (to - from) / (now.at - before.at);
  });
}

/** The quantile of the times measured in the `over` seconds before each time; null where none was measured. */
export function quantiles(
  readings: readonly Statistics[],
  pick: (statistics: Statistics) => Distribution,
  q: number,
  over: number,
): Point[] {
  return since(readings, over, (before, now) => {
    const { bounds, counts } = pick(now);
    const old = pick(before).counts;
    return quantile(bounds, counts.map((count, index) => count - (old[index] ?? 0)), q);
  });
}

/** Compares each reading with the oldest one at most `over` seconds before it, without a gap between, at least with the previous one. */
function since(readings: readonly Statistics[], over: number, of: (before: Statistics, now: Statistics) => number | null): Point[] {
  let first = 0;
  return readings.map((now, index) => {
    const last = readings[index - 1];
    if (last === undefined || now.at - last.at > GAP_SECONDS) {
      first = index;
      return { at: now.at, value: null };
    }
    while (first < index - 1 && now.at - (readings[first]?.at ?? 0) > over) first += 1;
    const before = readings[first];
    return { at: now.at, value: before === undefined ? null : of(before, now) };
  });
}

/**
 * The quantile as Prometheus calculates it: values are taken to lie evenly within a bucket. `counts[i]` values are at
 * most `bounds[i]`; the last count is the total. A value above every bound counts as the highest bound.
 */
export function quantile(bounds: readonly number[], counts: readonly number[], q: number): number | null {
  const total = counts.at(-1) ?? 0;
  if (total <= 0) return null;
  const rank = q * total;
  const index = counts.findIndex((count) => count >= rank && count > 0);
  const upper = bounds[index];
  if (upper === undefined) return bounds.at(-1) ?? null;
  const [lower, below] = index === 0 ? [0, 0] : [bounds[index - 1] ?? 0, counts[index - 1] ?? 0];
  return lower + ((upper - lower) * (rank - below)) / ((counts[index] ?? 0) - below);
}

export function latest(points: readonly Point[]): number | null {
  return points.at(-1)?.value ?? null;
}

/** The highest value; null where there is none. */
export function peak(points: readonly Point[]): number | null {
  const values = points.flatMap(({ value }) => (value === null ? [] : [value]));
  return values.length === 0 ? null : Math.max(...values);
}

/** The point with a value nearest to a time; null if no point has a value. */
export function nearest(points: readonly Point[], at: number): Point | null {
  return points.reduce<Point | null>((found, point) => {
    if (point.value === null) return found;
    return found === null || Math.abs(point.at - at) < Math.abs(found.at - at) ? point : found;
  }, null);
}

/** The section that a plot shows: times from `start` to `end`, values from 0 to `top`. */
export interface Frame {
  start: number;
  end: number;
  top: number;
}

export function frame(lines: readonly (readonly Point[])[]): Frame {
  const end = lines[0]?.at(-1)?.at ?? 0;
  const first = lines[0]?.[0]?.at ?? 0;
  return { start: Math.min(first, end - LEAST_SECONDS), end, top: Math.max(...lines.map((line) => peak(line) ?? 0)) || 1 };
}

/**
 * The line as an SVG path in a box of 100 by 1 that shows this frame; gaps stay gaps. With `closed`, the area below it.
 */
export function path(points: readonly Point[], { start, end, top }: Frame, closed = false): string {
  const parts: Point[][] = [];
  let last: Point | null = null;
  for (const point of points) {
    if (point.value !== null) {
      const joined = last !== null && last.value !== null && point.at - last.at <= GAP_SECONDS;
      if (joined) parts.at(-1)?.push(point);
      else parts.push([point]);
    }
    last = point;
  }
  const x = (at: number) => round((100 * (at - start)) / (end - start), 100);
  const y = (value: number | null) => round(1 - (value ?? 0) / top, 1e4);
  return parts
    .map((part) => {
      const line = part.map(({ at, value }) => `${x(at)} ${y(value)}`).join("L");
      const [from, to] = [part[0]?.at ?? 0, part.at(-1)?.at ?? 0];
      if (!closed) return part.length === 1 ? `M${line}h-0.5` : `M${line}`; // a single point becomes a dash
      return `M${x(from)} 1L${line}L${x(to)} 1Z`;
    })
    .join("");
}

function round(value: number, to: number): number {
  return Math.round(value * to) / to;
}

/** A formatted value: the number and its unit. */
export type Shown = [number: string, unit: string];

export const NOTHING: Shown = ["–", ""];

export function count(value: number): Shown {
  return [Math.round(value).toLocaleString(), ""];
}

export function size(value: number): Shown {
  const [number = "", unit = ""] = bytes(Math.round(value)).split(" ");
  return [number, unit];
}

export function sizeRate(value: number): Shown {
  const [number, unit] = size(value);
  return [number, `${unit === "bytes" || unit === "byte" ? "B" : unit}/s`];
}

export function each(unit: string): (value: number) => Shown {
  return (value) => [value < 10 && value > 0 ? value.toFixed(1) : Math.round(value).toLocaleString(), unit];
}

export function time(seconds: number): Shown {
  if (seconds >= 0.9995) return [seconds.toFixed(1), "s"];
  const ms = seconds * 1000;
  return [ms < 1 ? ms.toFixed(2) : ms < 9.95 ? ms.toFixed(1) : ms.toFixed(0), "ms"];
}

export function percent(share: number): Shown {
  return [(share * 100).toFixed(share < 0.0995 ? 1 : 0), "%"];
}

export function inWords(shown: Shown): string {
  return shown.join(" ").trim();
}
