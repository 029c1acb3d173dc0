import type { UsageGroup, UsageReport } from "./rest.ts";

export const GROUPS: [UsageReport["by"], string][] = [
  ["day", "Day"],
  ["model", "Model"],
  ["agent", "Agent"],
  ["operator", "Operator"],
  ["label", "Label"],
  ["conversation", "Conversation"],
  ["turn", "Turn"],
];

export const DAYS = [7, 30, 90, 365];

/** What a chart shows of each day. */
export type Measure = "tokens" | "cost";

/** The beginning of the day `days` - 1 days before today, in the person's time zone. */
export function firstDay(days: number, now = new Date()): Date {
  return new Date(now.getFullYear(), now.getMonth(), now.getDate() - days + 1);
}

/** The values of every day from `since` until today, as uPlot takes them: the days as Unix times, then the values. */
export function perDay(groups: readonly UsageGroup[], since: Date, measure: Measure, now = new Date()): [number[], number[]] {
  const values = new Map(groups.map((group) => [group.key, measure === "cost" ? (group.cost_usd ?? 0) : allTokens(group)]));
  const days: Date[] = [];
  for (let day = since; day <= now; day = new Date(day.getFullYear(), day.getMonth(), day.getDate() + 1)) days.push(day);
  return [days.map((day) => day.getTime() / 1000), days.map((day) => values.get(keyOf(day)) ?? 0)];
}

export function allTokens(sum: Pick<UsageGroup, "input_tokens" | "output_tokens" | "cache_read_tokens" | "cache_write_tokens">): number {
  return sum.input_tokens + sum.output_tokens + sum.cache_read_tokens + sum.cache_write_tokens;
}

/** A number of tokens in three digits: `950`, `12.3k`, `4.57M`. */
export function short(count: number): string {
  const units = ["", "k", "M", "G", "T", "P"];
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(value) : Number(value.toPrecision(3))}${units[unit]}`;
}

function keyOf(day: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  return `${day.getFullYear()}-${two(day.getMonth() + 1)}-${two(day.getDate())}`;
}
