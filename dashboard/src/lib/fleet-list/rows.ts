import { cliName } from "../kinds.ts";
import { needsPerson, type Entry } from "./entry.ts";

/** By what the list is grouped. */
export const GROUPINGS = ["none", "label", "host", "kind"] as const;
export type Grouping = (typeof GROUPINGS)[number];

/** A line of the list: the heading of a group, or an agent. `key` is its own: an agent with two labels stands in two groups. */
export type Row =
  | { key: string; heading: string; count: number; folded: boolean; entry?: never }
  | { key: string; entry: Entry; heading?: never };

/** The key of the group of agents that wait for a person. */
export const NEEDED = "needed";
/** The key of the group of offline agents. */
export const OFFLINE = "offline";

/**
 * The lines of the list: agents that need a person, the longest waiting one first; the others in their groups, by name;
 * and offline agents at the end. The agents of `folded` groups are left out, except the one that the page shows. Where
 * there is one group without a name of its own, it has no heading, and is not folded.
 */
export function rowsOf(entries: readonly Entry[], grouping: Grouping, folded: ReadonlySet<string>, shownId: string | null): Row[] {
  const needed = entries.filter(needsPerson).sort((a, b) => (a.since ?? 0) - (b.since ?? 0));
  const offline = entries.filter(isAway);
  const others = entries.filter((entry) => !needsPerson(entry) && !isAway(entry));
  const groups: [key: string, heading: string, entries: Entry[]][] = [];
  if (needed.length > 0) groups.push([NEEDED, "Need a person", needed]);
  if (grouping === "none") groups.push(["others", "", others]);
  else for (const [name, members] of grouped(others, grouping)) groups.push([`${grouping} ${name}`, name, members]);
  if (offline.length > 0) groups.push([OFFLINE, "Offline", offline]);
  const filled = groups.filter(([, , members]) => members.length > 0);
  const alone = filled.length === 1 && (filled[0]?.[1] === "" || filled[0]?.[0] === OFFLINE);
  const rows: Row[] = [];
  for (const [key, heading, members] of filled) {
    const isFolded = !alone && folded.has(key);
    if (!alone && heading !== "") rows.push(headingOf(key, heading, members, isFolded));
    else if (!alone && needed.length > 0) rows.push(headingOf(key, "Others", members, isFolded));
    const shown = isFolded ? members.filter(({ agent }) => agent.id === shownId) : members;
    rows.push(...shown.map((entry) => ({ key: `${key} ${entry.agent.id}`, entry })));
  }
  return rows;
}

/** An agent that is offline and has no command: one that was cut off in its work stays where it is. */
function isAway(entry: Entry): boolean {
  return entry.activity === "offline" && entry.active === undefined && entry.request === undefined;
}

function headingOf(key: string, heading: string, members: Entry[], folded: boolean): Row {
  return { key, heading, count: members.length, folded };
}

function grouped(entries: readonly Entry[], grouping: Exclude<Grouping, "none">): [name: string, entries: Entry[]][] {
  const groups = new Map<string, Entry[]>();
  for (const entry of entries) {
    for (const name of namesOf(entry, grouping)) {
      const group = groups.get(name);
      if (group === undefined) groups.set(name, [entry]);
      else group.push(entry);
    }
  }
  return [...groups].sort(([a], [b]) => a.localeCompare(b));
}

function namesOf({ agent }: Entry, grouping: Exclude<Grouping, "none">): string[] {
  if (grouping === "kind") return [cliName(agent)];
  if (grouping === "host") return [agent.host === "" ? "Unknown host" : agent.host];
  return agent.labels.length === 0 ? ["No label"] : agent.labels;
}

/** The lines near the seen part of a list whose lines are all `height` px high: from `first` up to, not including, `end`. */
export function seen(count: number, height: number, scrolled: number, viewport: number, margin = 10): { first: number; end: number } {
  const first = Math.max(0, Math.floor(scrolled / height) - margin);
  return { first: Math.min(first, count), end: Math.min(count, Math.ceil((scrolled + viewport) / height) + margin) };
}
