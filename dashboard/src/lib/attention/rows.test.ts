import { describe, expect, test } from "vitest";

import type { AttentionRequest } from "../rest.ts";
import type { RequestBody } from "./requests.ts";
import { alike, deliveryOf, fateOf, nextOf } from "./rows.ts";

function call(tool: string, rules: string[]): RequestBody {
  return { kind: "permission", tool, tool_kind: "execute", folder: "", input: "{}", diff: "", reason: "", names: [], said: [], parts: [], rules, cli_rules: [], editable: false, reason_way: "told" };
}

function row(id: string, fields: Partial<AttentionRequest> = {}): AttentionRequest {
  return {
    id, seq: 1, agent_id: "a", command_id: "c", conversation_id: null, kind: "permission", title: "", body: { kind: "plan", plan: "" },
    digest: "", step: null, guess: false, state: "open", asked_at: `2026-01-01T00:00:0${id}Z`, closed_at: null, decision: null,
    answered_by_kind: null, answered_by: null, answered_by_name: null, scope: null, delivery: null, reason: null, for_admins: null, ...fields,
  };
}

describe("the order", () => {
  const [first, second, third] = [row("1"), row("2"), row("3")] as const;
  const rows = [first, second, third];

  test("the next request is the next older one, then the first", () => {
    expect(nextOf(rows, first)?.id).toBe("2");
    expect(nextOf(rows, third)?.id).toBe("1");
    expect(nextOf(rows, first, -1)?.id).toBe("3");
    expect(nextOf([first], first)).toBeNull();
    const note = row("0", { kind: "failed" });
    expect(nextOf([...rows, note], third)?.id).toBe("0"); // a note comes after all requests
  });

  test("a request that is not open any more has a next one", () => {
    expect(nextOf([first, third], second)?.id).toBe("3");
    expect(nextOf([first, third], second, -1)?.id).toBe("1");
  });
});

test("calls of the same tool with the same narrowest rule are alike", () => {
  const first = row("1", { body: call("Bash", ["Bash(ls)", "Bash"]) });
  const unruled = row("4", { body: call("Bash", []) });
  const other = row("5");
  const rows = [
    first,
    row("2", { body: call("Bash", ["Bash(ls)"]) }),
    row("3", { body: call("Bash", ["Bash(rm)"]) }),
    unruled,
    other,
  ];
  expect(alike(first, rows).map(({ id }) => id)).toEqual(["2"]);
  expect(alike(unruled, rows)).toEqual([]);
  expect(alike(other, rows)).toEqual([]);
});

describe("what became of a request", () => {
  const ada = { answered_by_kind: "operator", answered_by: "ada", answered_by_name: "Ada" } as const;

  test.each<[Partial<AttentionRequest>, string | null]>([
    [{}, null],
    [{ state: "withdrawn", reason: "The command has ended." }, "Withdrawn: The command has ended."],
    [{ state: "answered", decision: { decision: "allow", input: null, cli_rule: null }, ...ada }, "Allowed by Ada."],
    [{ state: "answered", decision: { decision: "allow", input: null, cli_rule: null }, scope: "always", ...ada }, "Always allowed by Ada."],
    [{ state: "answered", decision: { decision: "allow", input: "{}", cli_rule: null }, ...ada }, "Allowed with another input by Ada."],
    [{ state: "answered", decision: { decision: "allow", input: null, cli_rule: "a rule" }, ...ada }, "Allowed for good, by a rule of its CLI, by Ada."],
    [{ state: "answered", kind: "plan", decision: { decision: "allow", input: null, cli_rule: null }, ...ada }, "Approved by Ada."],
    [{ state: "answered", decision: { decision: "deny", reason: "not now", cancel: false }, ...ada }, "Denied by Ada. Reason: not now"],
    [{ state: "answered", kind: "elicitation", decision: { decision: "deny", reason: "", cancel: false }, ...ada }, "Declined by Ada."],
    [{ state: "answered", kind: "elicitation", decision: { decision: "deny", reason: "", cancel: true }, ...ada }, "Left without an answer by Ada."],
    [
      { state: "answered", kind: "question", decision: { decision: "answers", answers: [{ id: "q", answers: ["red", "blue"] }] }, ...ada },
      "Answered by Ada. red, blue",
    ],
    [
      { state: "answered", decision: { decision: "allow", input: null, cli_rule: null }, answered_by_kind: "rule", answered_by: "r", answered_by_name: "the rule Bash(ls)" },
      "Allowed by the rule Bash(ls).",
    ],
  ])("%o", (fields, fate) => {
    expect(fateOf(row("1", fields), "grace")).toBe(fate);
  });

  test("the person who answered it is told so", () => {
    expect(fateOf(row("1", { state: "answered", decision: { decision: "deny", reason: "", cancel: false }, ...ada }), "ada")).toBe("Denied by you.");
  });

  test("an answer that the agent has not taken, or took too late, is told", () => {
    const answered = { state: "answered", decision: { decision: "allow", input: null, cli_rule: null } } as const;
    expect(deliveryOf(row("1", { ...answered, delivery: "given" }))).toBe("");
    expect(deliveryOf(row("1", { ...answered, delivery: "waiting" }))).toMatch(/not taken it yet/);
    expect(deliveryOf(row("1", { ...answered, delivery: "late" }))).toMatch(/too late/);
    expect(deliveryOf(row("1", { ...answered, delivery: "unknown" }))).toMatch(/ended before/);
  });
});
