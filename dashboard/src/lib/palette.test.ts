import { expect, test } from "vitest";

import { ranked, score, type Offer } from "./palette.ts";

function offer(label: string, hint?: string): Offer {
  return { id: label, label, group: "", run: () => undefined, ...(hint === undefined ? {} : { hint }) };
}

test("letters only match in order", () => {
  expect(score("bld", "build-1")).not.toBeNull();
  expect(score("dlb", "build-1")).toBeNull();
});

test("beginnings of words and adjacent letters come first", () => {
  const offers = [offer("rebuild-farm"), offer("build-farm"), offer("bounded-files")];
  expect(ranked("bf", offers).map((o) => o.label)[0]).not.toBe("rebuild-farm");
  expect(ranked("build", offers).map((o) => o.label)).toEqual(["build-farm", "rebuild-farm"]);
});

test("a match of the hint comes after matches of labels", () => {
  const offers = [offer("web-1", "claude ci-host"), offer("claude-2")];
  expect(ranked("claude", offers).map((o) => o.label)).toEqual(["claude-2", "web-1"]);
});

test("an empty query returns every offer in its order", () => {
  expect(ranked(" ", [offer("b"), offer("a")]).map((o) => o.label)).toEqual(["b", "a"]);
});
