import type { Query } from "./api.ts";
import { localTime } from "./format.ts";

export const OUTCOMES = ["ok", "refused", "failed"] as const;

/** The values of the audit log's filter fields; times are local, as `datetime-local` fields hold them. */
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

/** The filter as a query for the API. */
export function queryOf(filter: AuditFilter): Query<"/v1/audit"> {
  const { outcome, ...query } = Object.fromEntries(addressQuery(filter)) as Record<(typeof WORDS | typeof TIMES)[number], string>;
  const known = OUTCOMES.find((name) => name === outcome);
  return known === undefined ? query : { ...query, outcome: known };
}

/** The filter as a query of the page's address. */
export function addressQuery(filter: AuditFilter): URLSearchParams {
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

/** The filter of an address. */
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

/** The first eight digits of an id; other texts stay whole. */
export function shortId(text: string): string {
  return /^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(text) ? text.slice(0, 8) : text;
}
