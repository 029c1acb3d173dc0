/** An agent, page or action that the palette offers. */
export interface Offer {
  id: string;
  label: string;
  /** More words by which the search finds it. */
  hint?: string;
  group: string;
  keys?: string;
  run: () => void;
}

/**
 * How well `text` contains the letters of `query` in order: higher if they are adjacent or begin words; null if it does
 * not contain them.
 */
export function score(query: string, text: string): number | null {
  const wanted = query.toLowerCase().replaceAll(" ", "");
  const within = text.toLowerCase();
  let points = 0;
  let from = 0;
  let last = -2;
  for (const letter of wanted) {
    const at = within.indexOf(letter, from);
    if (at < 0) return null;
    if (at === last + 1) points += 4;
    if (at === 0 || !/[a-z0-9]/.test(within[at - 1] ?? "")) points += 3;
    points -= Math.min(at - from, 5) * 0.2;
    last = at;
    from = at + 1;
  }
  return points - text.length * 0.01;
}

/** The offers that match, best first; for an empty query the first ones, in their own order. */
export function ranked(query: string, offers: readonly Offer[], limit = 50): Offer[] {
  if (query.trim() === "") return offers.slice(0, limit);
  const scored: [number, Offer][] = [];
  for (const offer of offers) {
    const byLabel = score(query, offer.label);
    const byHint = offer.hint === undefined ? null : score(query, offer.hint);
    const best = Math.max(byLabel ?? -Infinity, (byHint ?? -Infinity) - 2);
    if (best > -Infinity) scored.push([best, offer]);
  }
  return scored
    .sort(([a], [b]) => b - a)
    .slice(0, limit)
    .map(([, offer]) => offer);
}
