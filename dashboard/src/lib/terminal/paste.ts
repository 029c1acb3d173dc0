/**
 * The text of a paste with its control characters made harmless: a program would take them for keys, and `ESC [ 2 0 1 ~`
 * for the end of the paste. They are replaced by symbols of the same meaning; tabs and line ends stay.
 */
export function harmless(text: string): string {
  return text.replace(/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/g, symbol);
}

/** The number of lines of a text: a line end at its end begins no further line. */
export function lineCount(text: string): number {
  return text.replace(/(\r\n|\r|\n)$/, "").split(/\r\n|\r|\n/).length;
}

function symbol(control: string): string {
  const code = control.charCodeAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  return code === 0x7f ? "\u2421" : "\ufffd"; // Unicode has no symbols for the second set of control characters
}
