/** What a terminal gets for a key that is pressed while Ctrl is held; the key itself where Ctrl changes nothing. */
export function withCtrl(key: string): string {
  const upper = key.toUpperCase();
  if (key === " ") return "\0";
  return /^[@-_]$/.test(upper) ? String.fromCharCode(upper.charCodeAt(0) & 0x1f) : key;
}
