import { describe, expect, test } from "vitest";

import { contentOf, fieldsOf, initialValues, type FormField } from "./form.ts";

const SCHEMA = {
  type: "object",
  required: ["name", "port", "sizes"],
  properties: {
    name: { type: "string", title: "Name", minLength: 2, maxLength: 5 },
    port: { type: "integer", minimum: 1, maximum: 65535 },
    rate: { type: "number", default: 0.5 },
    loud: { type: "boolean", default: true },
    color: { type: "string", enum: ["r", "g"], enumNames: ["Red", "Green"] },
    level: { type: "string", oneOf: [{ const: "1", title: "One" }, { const: "2" }] },
    sizes: { type: "array", items: { type: "string", enum: ["s", "m", "l"] }, maxItems: 2 },
  },
};

function fields(): FormField[] {
  const found = fieldsOf(JSON.stringify(SCHEMA));
  if (found === null) throw new Error("the schema has plain fields");
  return found;
}

describe("the fields of a schema", () => {
  test("each has its type, its choices and its initial value", () => {
    expect(fields().map(({ name, type }) => [name, type])).toEqual([
      ["name", "text"], ["port", "integer"], ["rate", "number"], ["loud", "boolean"],
      ["color", "choice"], ["level", "choice"], ["sizes", "choices"],
    ]);
    expect(initialValues(fields())).toEqual({ name: "", port: "", rate: "0.5", loud: true, color: "", level: "", sizes: [] });
    expect(fields()[4]?.values).toEqual([{ value: "r", label: "Red" }, { value: "g", label: "Green" }]);
    expect(fields()[5]?.values[1]).toEqual({ value: "2", label: "2" });
  });

  test.each([
    "", "[]", "null", "{", '{"type": "object"}', '{"properties": {}}', '{"properties": {"a": 1}}', '{"properties": {"a": {"type": "object"}}}',
    '{"properties": {"a": {"type": "array", "items": {"type": "object"}}}}', '{"properties": {"a": {"type": "string", "enum": [1]}}}',
    JSON.stringify({ properties: Object.fromEntries(Array.from({ length: 65 }, (_, at) => [`f${at}`, { type: "string" }])) }),
  ])("another schema is filled in as JSON: %s", (schema) => {
    expect(fieldsOf(schema)).toBeNull();
  });
});

describe("the content of a form", () => {
  const filled = { name: "Ada", port: "80", rate: "", loud: false, color: "", level: "2", sizes: ["s"] };

  test("values have the types of their fields, and empty optional ones are left out", () => {
    const answer = contentOf(fields(), filled);
    expect("content" in answer && JSON.parse(answer.content)).toEqual({ name: "Ada", port: 80, loud: false, level: "2", sizes: ["s"] });
  });

  test("a field may have any name", () => {
    const odd = fieldsOf('{"properties": {"__proto__": {"type": "string"}}}') ?? [];
    const values = initialValues(odd);
    Object.defineProperty(values, "__proto__", { value: "kept" });
    expect(contentOf(odd, values)).toEqual({ content: '{"__proto__":"kept"}' });
  });

  test.each([
    [{ name: "" }, "Name: a value is required."],
    [{ name: "A" }, "Name: at least 2 characters are required."],
    [{ name: "Adalbert" }, "Name: at most 5 characters are allowed."],
    [{ port: "x" }, "port: a number is required."],
    [{ port: "1.5" }, "port: a whole number is required."],
    [{ port: "0" }, "port: the least value is 1."],
    [{ port: "99999" }, "port: the greatest value is 65535."],
    [{ color: "blue" }, "color: choose one of the values."],
    [{ sizes: [] }, "sizes: choose at least 1."],
    [{ sizes: ["s", "m", "l"] }, "sizes: choose at most 2."],
  ])("a value that does not fit is named: %o", (change, problem) => {
    expect(contentOf(fields(), { ...filled, ...change })).toEqual({ problem });
  });
});
