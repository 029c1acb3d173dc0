import { localTime } from "./format.ts";

/** What of the audit log is wanted, as the page's fields hold it: times are the browser's own, without an offset. */
export interface AuditFilter {
  text?: string;
  actor?: string;
  action?: string;
  target?: string;
  address?: string;
  outcome?: string;
  since?: string;
  until?: string;
}

const WORDS = ["text", "actor", "action", "target", "address", "outcome"] as const;
const TIMES = ["since", "until"] as const;

/** As the API is asked, and as the address keeps it. */
export function queryOf(filter: AuditFilter): URLSearchParams {
  const query = new URLSearchParams();
  for (const name of WORDS) {
    const value = filter[name]?.trim();
    if (value) query.set(name, value);
  }
  for (const name of TIMES) {
    const value = filter[name];
    const time = value ? new Date(value) : null;
    if (time !== null && !Number.isNaN(time.getTime())) query.set(name, time.toISOString());
  }
  return query;
}

/** What an address asks for. */
export function filterOf(query: URLSearchParams): AuditFilter {
  const filter: AuditFilter = {};
  for (const name of WORDS) {
    const value = query.get(name);
    if (value) filter[name] = value;
  }
  for (const name of TIMES) {
    const time = new Date(query.get(name) ?? "");
    if (!Number.isNaN(time.getTime())) filter[name] = localTime(time);
  }
  return filter;
}

/** The beginning of an id is enough to tell it from others; what is no id stays whole. */
export function shortId(text: string): string {
  return /^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(text) ? text.slice(0, 8) : text;
}
