import { describe, expect, test } from "vitest";

import type { StepAnswer } from "./rest.ts";
import { change, lasted, matching, nextMatch, placed, planned, readable, sources, stepAt } from "./turn.ts";

function step(number: number, fields: Partial<StepAnswer> = {}): StepAnswer {
  return {
    changed: number,
    number,
    revision: 1,
    parent: null,
    kind: "tool",
    name: "",
    tool_kind: null,
    title: "",
    status: "completed",
    text: "",
    text_length: 0,
    text_omitted: 0,
    result: "",
    result_length: 0,
    result_omitted: 0,
    denied: false,
    started_at: "2026-01-01T00:00:00Z",
    ended_at: null,
    output_start: 0,
    output_end: 0,
    tokens: null,
    cost_usd: null,
    ...fields,
  };
}

describe("the tree", () => {
  test("a step stands below its parent, in the order of numbers", () => {
    const steps = [step(5, { parent: 2 }), step(1), step(4), step(3, { parent: 2 }), step(2), step(6, { parent: 3 })];
    expect(placed(steps).map(({ step, depth }) => [step.number, depth])).toEqual([
      [1, 0],
      [2, 0],
      [3, 1],
      [6, 2],
      [5, 1],
      [4, 0],
    ]);
  });

  test("a step whose parent is missing, or is no earlier step, stands at the top", () => {
    const steps = [step(3, { parent: 9 }), step(4, { parent: 4 }), step(5, { parent: 7 }), step(7, { parent: 5 })];
    expect(placed(steps).map(({ step, depth }) => [step.number, depth])).toEqual([
      [3, 0],
      [4, 0],
      [5, 0],
      [7, 1],
    ]);
  });

  test("ten thousand steps in a chain are placed", () => {
    const steps = Array.from({ length: 10_000 }, (_, at) => step(at + 1, { parent: at === 0 ? null : at }));
    expect(placed(steps)).toHaveLength(10_000);
  });
});

describe("a change of a file", () => {
  const edit = (text: object): StepAnswer => step(1, { tool_kind: "edit", text: JSON.stringify(text) });

  test("an edit removes and adds lines", () => {
    expect(change(edit({ file_path: "/a", old_string: "x\ny\n", new_string: "z" }))).toEqual({
      path: "/a",
      lines: [
        { kind: "removed", text: "x" },
        { kind: "removed", text: "y" },
        { kind: "added", text: "z" },
      ],
    });
  });

  test("a written file and several edits", () => {
    expect(change(edit({ file_path: "/a", content: "x" }))?.lines).toEqual([{ kind: "added", text: "x" }]);
    const edits = [{ old_string: "a", new_string: "b" }, null, { new_string: "c" }];
    expect(change(edit({ file_path: "/a", edits }))?.lines.map(({ text }) => text)).toEqual(["a", "b", "c"]);
  });

  test.each(["{", "null", "[]", '{"file_path": 5}', '{"file_path": "/a"}'])("none in %s", (text) => {
    expect(change(step(1, { tool_kind: "edit", text }))).toBeNull();
  });

  test("none in another tool's arguments", () => {
    expect(change(step(1, { tool_kind: "read", text: '{"file_path": "/a", "content": "x"}' }))).toBeNull();
  });
});

test("a step that goes on lasts until now", () => {
  const began = Date.parse("2026-01-01T00:00:00Z");
  expect(lasted(step(1), began + 2000)).toBe(2000);
  expect(lasted(step(1, { ended_at: "2026-01-01T00:00:01Z" }), began + 2000)).toBe(1000);
  expect(lasted(step(1), began - 5)).toBe(0);
});

test("a moment of the recording names the last step that had begun", () => {
  const steps = [step(2, { output_start: 10 }), step(1, { output_start: 4 }), step(3, { output_start: 10 })];
  expect([3, 4, 9, 10, 99].map((offset) => stepAt(steps, offset)?.number ?? null)).toEqual([null, 1, 1, 3, 3]);
});

describe("finding", () => {
  const steps = placed([step(1, { title: "Read a file" }), step(2, { result: "a FILE\n" }), step(3), step(4, { text: "file" })]);

  test("a step is found by its title, its text and its result", () => {
    expect(matching(steps, "file")).toEqual([0, 1, 3]);
    expect(matching(steps, "none of them")).toEqual([]);
    expect(matching(steps, "")).toEqual([]);
  });

  test("the next match goes round the ends", () => {
    expect(nextMatch([1, 4, 9], null, 1)).toBe(1);
    expect(nextMatch([1, 4, 9], null, -1)).toBe(9);
    expect(nextMatch([1, 4, 9], 4, 1)).toBe(9);
    expect(nextMatch([1, 4, 9], 5, -1)).toBe(4);
    expect(nextMatch([1, 4, 9], 9, 1)).toBe(1);
    expect(nextMatch([1, 4, 9], 1, -1)).toBe(9);
    expect(nextMatch([], 3, 1)).toBe(null);
  });
});

describe("texts", () => {
  test("arguments are read as texts, not as JSON", () => {
    expect(readable(step(1, { text: '{"command":"ls\\nls"}' }))).toBe("ls\nls");
    expect(readable(step(1, { text: '{"pattern":"x","head":3}' }))).toBe("pattern: x\nhead: 3");
    expect(readable(step(1, { text: '{"command":"l' }))).toBe('{"command":"l');
    expect(readable(step(1, { text: "[1]" }))).toBe("[1]");
    expect(readable(step(1, { kind: "notice", text: '{"a":"b"}' }))).toBe('{"a":"b"}');
  });

  test("each text of a step has its language", () => {
    const shell = step(1, { tool_kind: "execute", text: '{"command":"ls"}', result: "a\nb" });
    expect(sources(shell)).toEqual([
      { label: "Input", text: "ls", language: "shell" },
      { label: "Result", text: "a\nb" },
    ]);
    const read = step(1, { tool_kind: "read", text: '{"file_path":"a.py"}', result: "1: x" });
    expect(sources(read)).toEqual([
      { label: "Input", text: '{\n  "file_path": "a.py"\n}', language: "javascript" },
      { label: "Result", text: "1: x", path: "a.py" },
    ]);
    expect(sources(step(1, { text: '{"a":1', result: '{"b": 2}' })).map((source) => source.language)).toEqual(["javascript", "javascript"]);
    expect(sources(step(1, { kind: "message", text: "# Hello" }))).toEqual([{ label: "Text", text: "# Hello", language: "markdown" }]);
    expect(sources(step(1))).toEqual([]);
  });

  test("a plan has its entries and how far each is", () => {
    const text = "completed: Look: here\nin_progress: Change\npending: Test\nmore";
    expect(planned(step(1, { kind: "plan", text }))).toEqual([
      { text: "Look: here", state: "done" },
      { text: "Change", state: "now" },
      { text: "Test", state: "open" },
      { text: "more", state: "open" },
    ]);
  });
});
