/**
 * Shows the characters of a foreign text that a reader would not see: as `\x1b` or `\u202e` in their place.
 *
 * Names, command texts and errors come from other machines. Control, invisible and bidirectional characters would show
 * another text than the one that is there. The build wraps every text that a component shows in this function
 * (`build/foreign-text.ts`); `protocol/visible_text.py` does the same for the command line.
 */
export function visible<T>(value: T): T | string {
  return typeof value === "string" ? value.replace(HIDDEN, shown) : value;
}

const EMOJI = String.raw`\p{Extended_Pictographic}\p{Emoji_Modifier}`;
/** Line ends and tabs stay: the page's styles decide how they are shown. Within an emoji, a joiner hides nothing. */
const HIDDEN = new RegExp(
  String.raw`(?<=[${EMOJI}\ufe0f])\u200d(?=[${EMOJI}])|(?<=[${EMOJI}0-9#*])[\ufe0e\ufe0f]|` +
    String.raw`(?<hidden>(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}])`,
  "gu",
);

function shown(character: string, hidden: string | undefined): string {
  if (hidden === undefined) return character;
  const code = hidden.codePointAt(0) ?? 0;
  if (hidden === "\r") return "";
  const [mark, digits] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
  return `\\${mark}${code.toString(16).padStart(digits, "0")}`;
}
