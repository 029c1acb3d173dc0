/** A line of a unified diff. `file` names a file, `hunk` a place in it. */
export interface DiffLine {
  kind: "file" | "hunk" | "added" | "removed" | "same" | "note";
  text: string;
}

/** The lines of a unified diff. A hunk's header says how many lines follow: `--- a` within a hunk is a removed line. */
export function diffLines(diff: string): DiffLine[] {
  const lines: DiffLine[] = [];
  let before = 0;
  let after = 0;
  for (const text of diff.replace(/\n$/, "").split("\n")) {
    if (before > 0 || after > 0) {
      const kind = text.startsWith("+") ? "added" : text.startsWith("-") ? "removed" : text.startsWith("\\") ? "note" : "same";
      if (kind !== "added" && kind !== "note") before -= 1;
      if (kind !== "removed" && kind !== "note") after -= 1;
      lines.push({ kind, text });
      continue;
    }
    const hunk = /^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@/.exec(text);
    if (hunk !== null) {
      before = Number(hunk[1] ?? 1);
      after = Number(hunk[2] ?? 1);
      lines.push({ kind: "hunk", text });
    } else {
      lines.push({ kind: text.startsWith("\\") ? "note" : "file", text });
    }
  }
  return lines;
}

/** How many lines a diff adds and removes. */
export function diffSize(lines: readonly DiffLine[]): { added: number; removed: number } {
  return {
    added: lines.filter(({ kind }) => kind === "added").length,
    removed: lines.filter(({ kind }) => kind === "removed").length,
  };
}
