import { expect, test } from "vitest";

import { rulesIn } from "./rules.ts";

test("each line is a rule, without the space around it", () => {
  expect(rulesIn("Bash(npm test*)\r\n\n  edit \n")).toEqual(["Bash(npm test*)", "edit"]);
  expect(rulesIn(" \n")).toEqual([]);
});
