/** A duration for people: `0.4 s`, `12 s`, `3 m 05 s`, `2 h 04 m`, `3 d 4 h`. */
export function duration(milliseconds: number): string {
  const ms = Math.max(0, milliseconds);
  if (ms < 9950) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} m ${two(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${two(minutes % 60)} m`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Like `duration`, but in whole seconds, for a duration that grows on the page. */
export function elapsed(milliseconds: number): string {
  const ms = Math.max(0, milliseconds);
  return ms < 10_000 ? `${Math.floor(ms / 1000)} s` : duration(ms);
}

/** Time since an event: `now`, `12 s ago`, `3 m ago`, `2 h ago`, `4 d ago`. */
export function ago(milliseconds: number): string {
  const seconds = Math.floor(Math.max(0, milliseconds) / 1000);
  if (seconds < 5) return "now";
  if (seconds < 60) return `${seconds} s ago`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} m ago`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ago`;
  return `${Math.floor(hours / 24)} d ago`;
}

/** `812 bytes`, `1.5 KiB`, `20 MiB`. */
export function bytes(count: number): string {
  if (count < 1024) return count === 1 ? "1 byte" : `${count} bytes`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = count / 1024;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** Date and time in the person's time zone and language. */
export function moment(iso: string): string {
  return new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** Local date and time as a `datetime-local` field takes them. */
export function localTime(moment: Date): string {
  return new Date(moment.getTime() - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** A cost in dollars: `$1.50`, and below a cent its first two digits: `$0.0042`. */
export function dollars(cost: number): string {
  if (!Number.isFinite(cost)) return String(cost); // the server's error in the place of a value that it cannot show
  if (cost <= 0 || cost >= 0.01) return `$${cost.toFixed(2)}`;
  return cost < 1e-6 ? "under $0.000001" : `$${cost.toPrecision(2)}`;
}

export function timeOfDay(milliseconds: number): string {
  return new Date(milliseconds).toLocaleTimeString(undefined, { timeStyle: "medium" });
}

export function firstLine(text: string): string {
  const end = text.trimStart().indexOf("\n");
  return end < 0 ? text.trim() : `${text.trimStart().slice(0, end).trimEnd()} …`;
}

export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString()} ${count === 1 ? one : many}`;
}

/** The mark of a number of tokens that is the least that was used. */
export function atLeast(partial: boolean | undefined): string {
  return partial === true ? "≥" : "";
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}
