import type { Preset, PresetAnswer, Variable } from "./protocol.ts";

export type Value = string | number | boolean;

/** What a form holds: every variable by name, an empty text where nothing is given. */
export type Filled = Record<string, Value>;

export const VARIABLE_TYPES: Record<Variable["type"], string> = {
  text: "one line",
  long_text: "many lines",
  choice: "a choice",
  integer: "a whole number",
  boolean: "yes or no",
  path: "a path",
};

/** A form with the defaults filled in. `given` are values that were chosen before. */
export function filledIn(variables: Variable[], given: Record<string, unknown> = {}): Filled {
  return Object.fromEntries(
    variables.map((variable) => {
      const value = (given[variable.name] ?? variable.default) as Value | null;
      return [variable.name, value ?? (variable.type === "boolean" ? false : "")];
    }),
  );
}

/** The values to send: what was left empty is not given. */
export function given(variables: Variable[], filled: Filled): Filled {
  const values: Filled = {};
  for (const { name, type } of variables) {
    const value = filled[name];
    if (value === undefined || value === null || value === "") continue;
    // What is no number is sent as it is: the server says what is wrong with it.
    values[name] = type === "integer" && /^\s*-?\d+\s*$/.test(String(value)) ? Number(value) : value;
  }
  return values;
}

/** The preset without what the server adds to it; its default values as their types want them. */
export function contentOf(preset: PresetAnswer): Preset & { variables: Variable[] } {
  const { name, description, template, variables, priority, kind, limits } = preset;
  return { name, description, template, variables: variables.map(tidied), priority, kind, limits };
}

export function newVariable(name: string): Variable {
  return { name, type: "text", help: "", required: false, default: null, choices: [] };
}

/** Choices belong to a choice alone, and an empty default is none. */
export function tidied(variable: Variable): Variable {
  const choices = variable.type === "choice" ? variable.choices.map((choice) => choice.trim()).filter(Boolean) : [];
  const value = given([variable], { [variable.name]: variable.default ?? "" })[variable.name] ?? null;
  return { ...variable, choices, default: variable.type === "boolean" && value === false ? null : value };
}

/** The names that a template has marks for, in their order. */
export function namesIn(template: string): string[] {
  return [...new Set([...template.matchAll(/\{\{\s*[#^/]?\s*([a-z][a-z0-9_]*)\s*\}\}/g)].map((mark) => mark[1] ?? ""))];
}
