import type { Entry } from "./entry.ts";

/** The fields that a filter may name: `label:eu`. */
export const FIELDS = ["name", "label", "kind", "state", "host"] as const;
type Field = (typeof FIELDS)[number];

/** One condition of a filter. */
export interface Term {
  /** Null: the word may stand anywhere. */
  field: Field | null;
  /** In lower case. */
  word: string;
  negated: boolean;
}

/** A word, `"several words"` or `field:"several words"`. */
const TOKEN = /(?:([a-z]+):)?(?:"([^"]*)"?|(\S+))/gi;

/**
 * The conditions of a filter as it is typed; an agent must fulfil all. `not`, or `-` before a word, negates what follows.
 *
 * Every text is a filter: a field that does not exist is part of a word, an open quote ends with the text, and a `not`
 * after which nothing stands is not there yet.
 */
export function parse(text: string): Term[] {
  const terms: Term[] = [];
  let negated = false;
  for (const [whole, name, quoted, plain] of text.matchAll(TOKEN)) {
    if (whole.toLowerCase() === "not") {
      negated = !negated;
      continue;
    }
    const minus = name === undefined && quoted === undefined && whole.length > 1 && whole.startsWith("-");
    const term = minus ? parse(whole.slice(1))[0] : undefined;
    if (term !== undefined) {
      terms.push({ ...term, negated: !negated });
    } else {
      const field = FIELDS.find((known) => known === name?.toLowerCase()) ?? null;
      const word = field === null && quoted === undefined ? whole : (quoted ?? plain ?? "");
      if (word !== "") terms.push({ field, word: word.toLowerCase(), negated });
    }
    negated = false;
  }
  return terms;
}

/** Whether an agent fulfils all conditions. */
export function fits(entry: Entry, terms: readonly Term[]): boolean {
  return terms.every((term) => holds(entry, term) !== term.negated);
}

function holds(entry: Entry, { field, word }: Term): boolean {
  const { agent, activity, look } = entry;
  const states: string[] = [activity, look, agent.status, ...(entry.work?.last ? [entry.work.last.state] : [])];
  switch (field) {
    case "name":
      return agent.name.toLowerCase().includes(word);
    case "host":
      return agent.host.toLowerCase().includes(word);
    case "label":
      return agent.labels.some((label) => label.toLowerCase() === word);
    case "kind":
      return agent.kind === word || agent.cli?.toLowerCase() === word;
    case "state":
      return states.includes(word) || (word === "disabled" && agent.disabled_at !== null);
    case null:
      return (
        `${agent.name}\n${agent.host}\n${entry.doing}\n${agent.kind}\n${agent.cli ?? ""}`.toLowerCase().includes(word) ||
        agent.labels.some((label) => label.toLowerCase().includes(word)) ||
        states.some((state) => state.startsWith(word))
      );
  }
}
