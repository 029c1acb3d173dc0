import { expect, test } from "vitest";

import { diffLines, diffSize } from "./diff.ts";

const DIFF = `--- a/notes.sql
+++ b/notes.sql
@@ -1,3 +1,3 @@
 select 1;
--- a comment
+-- another comment
 select 2;
\\ No newline at end of file
--- a/b.txt
+++ b/b.txt
@@ -0,0 +1 @@
+one
`;

test("a removed line that begins with dashes is no file header", () => {
  const lines = diffLines(DIFF);
  expect(lines.map(({ kind }) => kind)).toEqual([
    "file", "file", "hunk", "same", "removed", "added", "same", "note", "file", "file", "hunk", "added",
  ]);
  expect(diffSize(lines)).toEqual({ added: 2, removed: 1 });
});

test("every line of a text that is no diff is shown", () => {
  expect(diffLines("rename a\nto b").map(({ text }) => text)).toEqual(["rename a", "to b"]);
});
