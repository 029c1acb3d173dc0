import { describe, expect, test } from "vitest";

import type { PermissionBody, Question, QuestionBody } from "../rest.ts";
import {
  answersOf, commandLine, emptyDrafts, indented, openQuestion, otherArguments, pressed, problemWithInput, reasonGoes, ruleInWords,
} from "./requests.ts";

function permission(input: string, fields: Partial<PermissionBody> = {}): PermissionBody {
  return {
    kind: "permission", tool: "Bash", tool_kind: "execute", folder: "/w", input, diff: "", reason: "",
    names: [], said: [], parts: [], rules: [], cli_rules: [], editable: false, reason_way: "told", ...fields,
  };
}

describe("a tool call", () => {
  test("a command line is shown as a shell takes it, its other arguments beside it", () => {
    expect(commandLine(permission('{"command": "ls -la", "timeout": 5}'))).toBe("ls -la");
    expect(commandLine(permission('{"command": ["bash", "-lc", "echo it\'s"]}'))).toBe("bash -lc 'echo it'\\''s'");
    expect(otherArguments(permission('{"command": "ls", "timeout": 5}'))).toBe('{\n  "timeout": 5\n}');
    expect(otherArguments(permission('{"command": "ls"}'))).toBe("");
  });

  test.each(['{"command": 1}', '{"command": []}', '{"command": ["ls", 1]}', "[]", "no JSON"])("all of %s is shown when it has none", (input) => {
    expect(commandLine(permission(input))).toBeNull();
    expect(otherArguments(permission(input))).toBe(indented(input));
  });

  test("a call that runs nothing has no command line", () => {
    expect(commandLine(permission('{"command": "view"}', { tool_kind: "edit" }))).toBeNull();
  });

  test("an edited input has to be JSON", () => {
    expect(problemWithInput('{"command": "ls"}')).toBeNull();
    expect(problemWithInput("{")).toMatch(/^This is not JSON: /);
  });

  test("a rule is told in words", () => {
    expect(ruleInWords("WebFetch")).toBe("Every call of WebFetch");
    expect(ruleInWords("Bash(git status)")).toBe("Calls of Bash with exactly “git status”");
    expect(ruleInWords("Bash(git *)")).toBe("Calls of Bash that begin with “git ”");
    expect(ruleInWords("Edit(/w/*.py)")).toBe("Calls of Edit that fit “/w/*.py”; * stands for any characters");
  });
});

describe("questions", () => {
  function question(fields: Partial<Question>): Question {
    const options = ["red", "green"].map((label) => ({ label, description: "" }));
    return { id: "q", text: "Which?", header: "", options, multiple: false, free_text: true, secret: false, ...fields };
  }
  const body: QuestionBody = { kind: "question", reason_way: "told", questions: [question({ id: "one" }), question({ id: "many", multiple: true })] };

  test("there are answers when each question has one, in the order of the options", () => {
    const [one, many] = body.questions as [Question, Question];
    const drafts = emptyDrafts(body);
    expect(answersOf(body, drafts)).toBeNull();
    expect(openQuestion(body, drafts)).toBe(0);
    drafts[0] = pressed(one, { chosen: [], text: "" }, "red");
    expect(openQuestion(body, drafts)).toBe(1);
    drafts[1] = pressed(many, pressed(many, { chosen: [], text: "blue" }, "green"), "red");
    expect(answersOf(body, drafts)).toEqual({
      decision: "answers",
      answers: [{ id: "one", answers: ["red"] }, { id: "many", answers: ["red", "green", "blue"] }],
    });
    expect(pressed(many, drafts[1], "red").chosen).toEqual(["green"]);
  });

  test("one answer is a text or an option, not both", () => {
    const [one] = body.questions as [Question, Question];
    const single: QuestionBody = { kind: "question", reason_way: "told", questions: [one] };
    expect(answersOf(single, [{ chosen: ["red"], text: "blue" }])).toEqual({ decision: "answers", answers: [{ id: "one", answers: ["blue"] }] });
    expect(pressed(one, { chosen: [], text: "blue" }, "red")).toEqual({ chosen: ["red"], text: "" });
  });

  test("a text is no answer to a question that takes only its options", () => {
    const single: QuestionBody = { kind: "question", reason_way: "told", questions: [question({ free_text: false })] };
    expect(answersOf(single, [{ chosen: [], text: "blue" }])).toBeNull();
  });
});

test("a person is told before where a reason goes", () => {
  const plan = { kind: "plan", plan: "" } as const;
  expect(reasonGoes(plan)).toContain("reads this reason");
  expect(reasonGoes({ kind: "question", questions: [], reason_way: "steered" })).toContain("into the running turn");
  expect(reasonGoes({ kind: "question", questions: [], reason_way: "next_command" })).toContain("next command");
});
