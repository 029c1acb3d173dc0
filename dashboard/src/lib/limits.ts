import { dollars } from "./format.ts";
import type { CommandLimits } from "./rest.ts";

export type LimitName = Exclude<keyof CommandLimits, "on_limit" | "wall_seconds">;

/** The texts of a form's fields: each limit as it is typed, empty for no limit. */
export type Typed = Record<LimitName | "on_limit", string>;

export const LIMITS: [name: LimitName, label: string, placeholder: string][] = [
  ["work_seconds", "Working time", "2h"],
  ["idle_seconds", "Time without output", "10m"],
  ["waiting_seconds", "Time without an answer", "8h"],
  ["tokens", "Tokens", "200000"],
  ["cost_usd", "Cost in $", "2.50"],
];

const UNITS: [unit: string, seconds: number][] = [
  ["d", 86_400],
  ["h", 3600],
  ["m", 60],
  ["s", 1],
];

/** The seconds of `90s`, `30m`, `2h`, `1d` or a plain number; null for any other text. */
export function parseSpan(text: string): number | null {
  const found = /^(\d+(?:\.\d+)?)\s*([smhd]?)$/.exec(text.trim());
  if (found === null) return null;
  return Number(found[1]) * (UNITS.find(([unit]) => unit === found[2])?.[1] ?? 1);
}

/** The text that `parseSpan` reads, in the largest unit that gives a whole number. */
export function writeSpan(seconds: number): string {
  const [unit, size] = UNITS.find(([, size]) => seconds >= size && seconds % size === 0) ?? ["s", 1];
  return `${seconds / size}${unit}`;
}

export function typed(limits: CommandLimits): Typed {
  return {
    work_seconds: write(limits.work_seconds, writeSpan),
    idle_seconds: write(limits.idle_seconds, writeSpan),
    waiting_seconds: write(limits.waiting_seconds, writeSpan),
    tokens: write(limits.tokens, String),
    cost_usd: write(limits.cost_usd, String),
    on_limit: limits.on_limit ?? "",
  };
}

function write(limit: number | null | undefined, how: (limit: number) => string): string {
  return typeof limit === "number" ? how(limit) : "";
}

/** The limits of a form, and the name of the first field that holds no valid limit. */
export function parse(form: Typed): { limits: CommandLimits; wrong: LimitName | null } {
  const limits: Record<string, number | string> = {};
  if (form.on_limit !== "") limits["on_limit"] = form.on_limit;
  let wrong: LimitName | null = null;
  for (const [name] of LIMITS) {
    const text = form[name].trim();
    if (text === "") continue;
    const value = name.endsWith("_seconds") ? parseSpan(text) : Number(text.replaceAll(",", ""));
    const least = name === "cost_usd" ? Number.MIN_VALUE : 1;
    if (value === null || !(value >= least) || (name === "tokens" && !Number.isInteger(value))) wrong ??= name;
    else limits[name] = value;
  }
  return { limits, wrong };
}

/** `2h, 5,000 tokens`; empty without any. */
export function limitsName(limits: CommandLimits): string {
  return [
    write(limits.work_seconds, writeSpan),
    write(limits.idle_seconds, (span) => `${writeSpan(span)} without output`),
    write(limits.waiting_seconds, (span) => `${writeSpan(span)} without an answer`),
    write(limits.tokens, (count) => `${count.toLocaleString("en")} tokens`),
    write(limits.cost_usd, dollars),
    limits.on_limit === "fail" ? "fails at a usage limit" : "",
  ]
    .filter((part) => part !== "")
    .join(", ");
}
