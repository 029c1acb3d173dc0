import { describe, expect, test } from "vitest";

import { fits, parse } from "./filter.ts";
import { entry } from "./entry.fixture.ts";

describe("a filter", () => {
  test.each([
    ["", []],
    ["  Build  ", [{ field: null, word: "build", negated: false }]],
    ["not build", [{ field: null, word: "build", negated: true }]],
    ["NOT not build", [{ field: null, word: "build", negated: false }]],
    ["-build", [{ field: null, word: "build", negated: true }]],
    ["not -build", [{ field: null, word: "build", negated: false }]],
    ["-label:eu", [{ field: "label", word: "eu", negated: true }]],
    ["build-1", [{ field: null, word: "build-1", negated: false }]],
    ["-", [{ field: null, word: "-", negated: false }]],
    ["build not", [{ field: null, word: "build", negated: false }]],
    ["Label:EU", [{ field: "label", word: "eu", negated: false }]],
    ['label:"two words" x', [{ field: "label", word: "two words", negated: false }, { field: null, word: "x", negated: false }]],
    ['"unit tests', [{ field: null, word: "unit tests", negated: false }]],
    ['"not"', [{ field: null, word: "not", negated: false }]],
    ["label:", [{ field: null, word: "label:", negated: false }]],
    ["colour:red", [{ field: null, word: "colour:red", negated: false }]],
    ["http://x", [{ field: null, word: "http://x", negated: false }]],
  ])("%j is read as its conditions", (text, terms) => {
    expect(parse(text)).toEqual(terms);
  });

  test.each([
    ["build", true],
    ["uild-", true],
    ["test", false],
    ["not test", true],
    ["eu", true],
    ["label:eu", true],
    ["label:e", false],
    ["kind:claude", true],
    ["kind:codex", false],
    ["work", true],
    ["state:working", true],
    ["state:work", false],
    ["state:failed", true],
    ["state:succeeded", false],
    ["state:online", true],
    ["not state:offline host:box", true],
    ['"compile the"', true],
    ["compile eu working claude", true],
    ["compile eu idle", false],
  ])("%j matches a working agent: %j", (text, matches) => {
    const working = entry("build-1", { kind: "claude", host: "box", labels: ["eu", "backend"] }, { active: "compile the page", last: "failed" });
    expect(fits(working, parse(text))).toBe(matches);
  });

  test("never fails, whatever is typed, and is split alike with more space", () => {
    const pieces = ["not", "-", "label:", '"', "a", ":", "?", "kind:x", "\\", "ü", "--", '""'];
    for (let round = 0; round < 600; round += 1) {
      const words = Array.from({ length: round % 6 }, (_, at) => pieces[(round * 7 + at * at * 5 + at) % pieces.length] ?? "");
      const terms = parse(words.join(" "));
      for (const { word } of terms) expect(word).not.toBe("");
      if (!words.some((word) => word.includes('"'))) expect(parse(`  ${words.join("   ")} `)).toEqual(terms);
    }
  });
});
