/** Times of terminal lines: how they are written, and how a person names one. Times are Unix times in seconds. */

/** `15:40:02`, in the browser's time zone. */
export function clockTime(second: number): string {
  const at = new Date(second * 1000);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

/** `28 Nov`, in the browser's time zone. */
export function dayOf(second: number): string {
  const at = new Date(second * 1000);
  return `${at.getDate()} ${MONTHS[at.getMonth()] ?? ""}`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const UNITS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };
const BACK = /^-\s*(\d{1,6})\s*([smhd])$/i;
const CLOCK = /^(\d{1,2}):(\d{2})(?::(\d{2}))?$/;
const DATE = /^(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T]+(\d{1,2}):(\d{2})(?::(\d{2}))?)?$/;

/**
 * The time that a person names: `15:40` or `15:40:02` (the latest one that is not after `latest`), `-5m` (before `from`;
 * also s, h, d), `2026-11-28`, or `2026-11-28 15:40`. Null if the text names none.
 */
export function namedTime(text: string, latest: number, from = latest): number | null {
  const asked = text.trim();
  const back = BACK.exec(asked);
  if (back !== null) return from - Number(back[1]) * (UNITS[(back[2] ?? "").toLowerCase()] ?? 1);
  const clock = CLOCK.exec(asked);
  if (clock !== null) {
    const day = new Date(latest * 1000);
    const parts = numbers(clock.slice(1));
    const found = local(day.getFullYear(), day.getMonth(), day.getDate(), parts);
    if (found === null || found <= latest) return found;
    return local(day.getFullYear(), day.getMonth(), day.getDate() - 1, parts);
  }
  const date = DATE.exec(asked);
  if (date === null) return null;
  const [year = 0, month = 0, day = 0, ...parts] = numbers(date.slice(1));
  const found = local(year, month - 1, day, parts);
  if (found === null) return null;
  const read = new Date(found * 1000);
  return read.getMonth() === month - 1 && read.getDate() === day ? found : null;
}

function numbers(parts: (string | undefined)[]): number[] {
  return parts.map((part) => Number(part ?? 0));
}

function local(year: number, month: number, day: number, [hours = 0, minutes = 0, seconds = 0]: number[]): number | null {
  if (hours > 23 || minutes > 59 || seconds > 59) return null;
  return Math.floor(new Date(year, month, day, hours, minutes, seconds).getTime() / 1000);
}
