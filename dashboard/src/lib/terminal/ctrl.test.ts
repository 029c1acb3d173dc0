import { expect, test } from "vitest";

import { withCtrl } from "./ctrl.ts";

test("Ctrl makes control characters of letters and a few signs", () => {
  const keys = ["c", "C", "z", "[", "\\", "@", " ", "1", "ä", "ß"];
  expect(keys.map(withCtrl)).toEqual(["\x03", "\x03", "\x1a", "\x1b", "\x1c", "\0", "\0", "1", "ä", "ß"]);
});
