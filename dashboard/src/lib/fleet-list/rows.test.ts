import { describe, expect, test } from "vitest";

import { LastLines } from "../last-lines.svelte.ts";
import { brief, described, lastLine, needsPerson, type Entry } from "./entry.ts";
import { entry } from "./entry.fixture.ts";
import { rowsOf, seen, type Grouping } from "./rows.ts";
import { Selection } from "./selection.svelte.ts";

const AT = "2026-01-01T09:00:00Z";

/** The lines as texts: `# heading (count)`, or an agent's name. */
function lines(entries: Entry[], grouping: Grouping = "none", folded: string[] = [], shownId: string | null = null): string[] {
  return rowsOf(entries, grouping, new Set(folded), shownId).map((row) =>
    row.entry === undefined ? `${row.folded ? "+" : "#"} ${row.heading} (${row.count})` : row.entry.agent.name,
  );
}

describe("an agent's row", () => {
  test.each<[string, Entry, Entry["look"], string]>([
    ["idle", entry("a"), "idle", "idle"],
    ["working", entry("a", {}, { active: "make\nall" }), "working", "make …"],
    ["waiting", entry("a", {}, { active: "make", asks: "npm test" }), "waiting", "npm test"],
    ["succeeded", entry("a", {}, { last: "succeeded" }), "idle", "✓ make …"],
    ["failed", entry("a", {}, { last: "failed" }), "failed", "failed: make …"],
    ["past its limit", entry("a", {}, { last: "timed_out" }), "failed", "limit exceeded: make …"],
    ["cancelled", entry("a", {}, { last: "cancelled" }), "idle", "cancelled: make …"],
    ["limited after a failure", entry("a", { limited_since: AT, limited_until: AT }, { last: "failed" }), "limited", "limited"],
    ["offline after a failure", entry("a", { status: "offline", disconnected_at: AT }, { last: "failed" }), "offline", "offline"],
    ["new", entry("a", { status: "offline" }), "offline", "never connected"],
    ["cut off in its work", entry("a", { status: "offline" }, { active: "make" }), "offline", "offline: make"],
    ["disabled", entry("a", { status: "offline", disabled_at: AT }), "offline", "disabled"],
    ["in trouble", entry("a", { problem: "disk full", problem_since: AT }), "problem", "takes no command"],
  ])("says that it is %s", (_, row, look, doing) => {
    expect([row.look, row.doing]).toEqual([look, doing]);
    expect(needsPerson(row)).toBe(look === "waiting" || look === "problem");
  });

  test("has the last line and the cost of its command", () => {
    const lines = new LastLines();
    const succeeded = entry("a", {}, { last: "succeeded" });
    expect([lastLine(succeeded, lines), succeeded.cost]).toEqual(["2 of 2 built", 0.25]);
    const working = entry("a", {}, { active: "make", last: "succeeded" });
    expect([lastLine(working, lines), working.cost]).toEqual([null, null]);
    lines.took({ r: "1 of 2 built" });
    expect(lastLine(working, lines)).toBe("1 of 2 built");
    expect(lastLine(entry("a", {}, { active: "make", asks: "npm test" }), lines)).toBeNull();
    expect(described(succeeded, Date.parse(AT), "2 of 2 built")).toContain("2 of 2 built\ncost: $0.25");
  });

  test.each([
    [0, "0s"],
    [59_999, "59s"],
    [60_000, "1m"],
    [3_599_000, "59m"],
    [86_399_000, "23h"],
    [90_000_000, "1d"],
    [-5, "0s"],
  ])("shows %i ms as %s", (ms, text) => {
    expect(brief(ms)).toBe(text);
  });
});

describe("the list", () => {
  const asking = entry("z", { labels: ["eu"] }, { active: "x", asks: "y" });
  const trouble = entry("y", { problem: "disk full", problem_since: AT });
  const fleet = [
    entry("a", { labels: ["eu", "web"], host: "one", kind: "claude" }),
    entry("b", { host: "two" }, { active: "make" }),
    entry("c", { status: "offline", labels: ["eu"] }),
    entry("d", { status: "offline" }, { active: "make" }),
    trouble,
    asking,
  ];

  test.each<[Grouping, string[]]>([
    ["none", ["# Need a person (2)", "y", "z", "# Others (3)", "a", "b", "d", "# Offline (1)", "c"]],
    ["label", ["# Need a person (2)", "y", "z", "# eu (1)", "a", "# No label (2)", "b", "d", "# web (1)", "a", "# Offline (1)", "c"]],
    ["host", ["# Need a person (2)", "y", "z", "# one (1)", "a", "# two (1)", "b", "# Unknown host (1)", "d", "# Offline (1)", "c"]],
    ["kind", ["# Need a person (2)", "y", "z", "# claude (1)", "a", "# shell (2)", "b", "d", "# Offline (1)", "c"]],
  ])("by %s has those that need a person first and the offline ones last", (grouping, expected) => {
    expect(lines(fleet, grouping)).toEqual(expected);
  });

  test("leaves out what is folded, and has no heading where there is one group", () => {
    expect(lines(fleet, "none", ["offline", "needed"])).toEqual(["+ Need a person (2)", "# Others (3)", "a", "b", "d", "+ Offline (1)"]);
    expect(lines([entry("a")])).toEqual(["a"]);
    expect(lines([entry("a", { status: "offline" })], "none", ["offline"])).toEqual(["a"]);
    expect(lines([])).toEqual([]);
  });

  test("keeps the agent that the page shows, also in a folded group", () => {
    expect(lines(fleet, "none", ["offline", "needed"], "c").slice(-2)).toEqual(["+ Offline (1)", "c"]);
    expect(lines(fleet, "none", ["offline", "needed"], "z").slice(0, 2)).toEqual(["+ Need a person (2)", "z"]);
  });

  test("has a key of its own for each line", () => {
    const keys = rowsOf(fleet, "label", new Set(), null).map(({ key }) => key);
    expect(new Set(keys).size).toBe(keys.length);
  });

  test("draws only the lines near the seen part", () => {
    expect(seen(1000, 28, 0, 560)).toEqual({ first: 0, end: 30 });
    expect(seen(1000, 28, 14_000, 560)).toEqual({ first: 490, end: 530 });
    expect(seen(1000, 28, 27_440, 560)).toEqual({ first: 970, end: 1000 });
    expect(seen(3, 28, 9999, 560)).toEqual({ first: 3, end: 3 });
    expect(seen(0, 28, 0, 0)).toEqual({ first: 0, end: 0 });
  });
});

test("several agents are selected one by one and from one to another", () => {
  const shown = ["a", "b", "c", "d", "e"];
  const selection = new Selection();
  const ids = () => [...selection.ids].sort().join("");
  selection.extend("c", shown, "b");
  expect(ids()).toBe("bc");
  selection.extend("a", shown, "b");
  expect(ids()).toBe("abc");
  selection.toggle("b");
  expect(ids()).toBe("ac");
  selection.toggle("e");
  selection.extend("d", shown, "a");
  expect(ids()).toBe("acde");
  selection.extend("gone", shown, "a");
  expect(ids()).toBe("acde");
  selection.clear();
  selection.extend("d", shown, null);
  expect(ids()).toBe("d");
});
