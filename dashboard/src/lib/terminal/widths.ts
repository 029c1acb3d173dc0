import { UnicodeGraphemesAddon } from "@xterm/addon-unicode-graphemes";
import type { IUnicodeVersionProvider, Terminal } from "@xterm/xterm";

const EMOJI = /^\p{Emoji_Presentation}$/u;
/** The bits of a character's width in xterm.js's properties of a character. */
const WIDTH = 0b110;
const TWO_COLUMNS = 0b100;

/**
 * The columns of characters: those of Unicode 15 with joined characters in one cell, by xterm.js's addon; emoji that are
 * newer than its tables are two columns wide, as the browser knows them.
 */
export function todaysWidths(): IUnicodeVersionProvider {
  const addon = addonsWidths();
  const isEmoji = (codepoint: number): boolean => codepoint >= 0x1f000 && EMOJI.test(String.fromCodePoint(codepoint));
  return {
    version: "today",
    wcwidth: (codepoint) => (isEmoji(codepoint) ? 2 : addon.wcwidth(codepoint)),
    charProperties: (codepoint, preceding) => {
      const found = addon.charProperties(codepoint, preceding);
      // A regional indicator is an emoji of two columns only as a pair, which the addon knows.
      const single = codepoint >= 0x1f1e6 && codepoint <= 0x1f1ff;
      return isEmoji(codepoint) && !single ? (found & ~WIDTH) | TWO_COLUMNS : found;
    },
  };
}

/** The addon's own provider, which it only hands to a terminal. */
function addonsWidths(): IUnicodeVersionProvider {
  let found: IUnicodeVersionProvider | undefined;
  const unicode = { activeVersion: "", versions: [], register: (one: IUnicodeVersionProvider) => void (found = one) };
  new UnicodeGraphemesAddon().activate({ unicode } as unknown as Terminal);
  if (found?.version !== "15-graphemes") throw new Error("The addon for widths has changed.");
  return found;
}
