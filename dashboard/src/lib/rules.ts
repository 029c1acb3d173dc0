/** The rules of a text that has one a line; empty lines are none. */
export function rulesIn(text: string): string[] {
  return text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
}
