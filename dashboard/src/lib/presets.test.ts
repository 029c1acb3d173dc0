import { describe, expect, it } from "vitest";

import type { PresetAnswer } from "./rest.ts";
import { contentOf, filledIn, given, namesIn, newVariable, tidied } from "./presets.ts";

const text = { ...newVariable("what"), required: true };
const count = { ...newVariable("most"), type: "integer" as const, default: 10 };
const tests = { ...newVariable("tests"), type: "boolean" as const, default: true };

describe("a preset's form", () => {
  it("begins with the defaults, or with given values", () => {
    expect(filledIn([text, count, tests])).toEqual({ what: "", most: 10, tests: true });
    expect(filledIn([text, count, tests], { tests: false, what: "x" })).toEqual({ what: "x", most: 10, tests: false });
  });

  it("sends filled fields with the types of their variables", () => {
    expect(given([text, count, tests], { what: "", most: "7", tests: false })).toEqual({ most: 7, tests: false });
    expect(given([count], { most: "many" })).toEqual({ most: "many" });
  });
});

describe("a preset in the editor", () => {
  it("keeps the rules, which the page does not offer", () => {
    const rules = { deny: ["Bash"] };
    expect(contentOf({ name: "a", variables: [text], rules } as unknown as PresetAnswer).rules).toEqual(rules);
  });

  it("has the variables that its template names", () => {
    expect(namesIn("{{ b }}{{#a}}{{a}}{{/a}} ${{ github.sha }} {{A}}")).toEqual(["b", "a"]);
  });

  it("keeps choices only for the type choice, and no empty default", () => {
    expect(tidied({ ...text, choices: ["x"], default: "" })).toEqual(text);
    expect(tidied({ ...text, type: "choice", choices: [" x ", ""] }).choices).toEqual(["x"]);
    expect(tidied({ ...count, default: "5" }).default).toBe(5);
  });
});
