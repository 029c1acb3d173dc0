/** Something that the palette offers. */
export interface Offer {
  id: string;
  label: string;
  /** Words that find it besides its label. */
  hint?: string;
  group: string;
  keys?: string;
  run: () => void;
}

/**
 * How well `query` matches `text`: its letters in order, better when they are adjacent or begin words; null when they
 * are not there.
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

/** The offers that fit, best first; all in their own order for an empty query. */
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
