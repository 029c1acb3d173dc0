import { expect, test } from "vitest";

import { todaysWidths } from "./widths.ts";

/** The columns of a text, counted as xterm.js does. */
function columns(text: string): number {
  const widths = todaysWidths();
  let total = 0;
  let preceding = 0;
  for (const character of text) {
    const found = widths.charProperties(character.codePointAt(0) ?? 0, preceding);
    const width = (found >> 1) & 3;
    total += (found & 1) === 1 ? width - ((preceding >> 1) & 3) : width;
    preceding = found;
  }
  return total;
}

test.each([
  ["ab", 2],
  ["é e\u0301", 3],
  ["日本", 4],
  ["\u{1f469}\u200d\u{1f4bb}", 2], // joined
  ["\u2764\ufe0f", 2], // with a selector
  ["\u{1f44d}\u{1f3fd}", 2], // with a skin tone
  ["\u{1f1e9}\u{1f1ea}", 2], // a flag
  ["\u{1fae8}", 2], // Unicode 15
  ["\u{1fae9}", 2], // Unicode 16
  ["\u{1f468}\u200d\u{1f469}\u200d\u{1f467}\u200d\u{1f466}x", 3],
])("%s takes %d columns", (text, expected) => {
  expect(columns(text)).toBe(expected);
});
