import type { Preset, PresetAnswer, Variable } from "./rest.ts";

export type Value = string | number | boolean;

/** The values of a form by the variable's name; an empty text for a variable without a value. */
export type Filled = Record<string, Value>;

export const VARIABLE_TYPES: Record<Variable["type"], string> = {
  text: "one line",
  long_text: "several lines",
  choice: "choice",
  integer: "whole number",
  boolean: "yes or no",
  path: "path",
  reports: "reports",
};

/** A form with the default values filled in; `given` has values that replace the defaults. */
export function filledIn(variables: Variable[], given: Record<string, unknown> = {}): Filled {
  return Object.fromEntries(
    variables.map((variable) => {
      const value = (given[variable.name] ?? variable.default) as Value | null;
      return [variable.name, value ?? (variable.type === "boolean" ? false : "")];
    }),
  );
}

/** The values to send: empty fields are left out. */
export function given(variables: Variable[], filled: Filled): Filled {
  const values: Filled = {};
  for (const { name, type } of variables) {
    const value = filled[name];
    if (value === undefined || value === null || value === "") continue;
    // A text that is not a number is sent as it is: the server's answer says what is wrong with it.
    values[name] = type === "integer" && /^\s*-?\d+\s*$/.test(String(value)) ? Number(value) : value;
  }
  return values;
}

/** Whether the preset is for agents of this kind. */
export function fits(preset: PresetAnswer, kind: string): boolean {
  return preset.kinds.length === 0 || preset.kinds.some((one) => one === kind);
}

/** The preset without the fields that the server adds; its default values have the variables' types. */
export function contentOf(preset: PresetAnswer): Preset & { variables: Variable[] } {
  const { name, description, template, variables, priority, kinds, limits, rules, report } = preset;
  return { name, description, template, variables: variables.map(tidied), priority, kinds, limits, rules, report };
}

export function newVariable(name: string): Variable {
  return { name, type: "text", help: "", required: false, default: null, choices: [] };
}

/** A variable without empty choices, and without choices where its type is no choice; an empty default becomes null. */
export function tidied(variable: Variable): Variable {
  const choices = variable.type === "choice" ? variable.choices.map((choice) => choice.trim()).filter(Boolean) : [];
  const value = given([variable], { [variable.name]: variable.default ?? "" })[variable.name] ?? null;
  return { ...variable, choices, default: variable.type === "boolean" && value === false ? null : value };
}

/** The names of the variables in a template, in their order. */
export function namesIn(template: string): string[] {
  return [...new Set([...template.matchAll(/\{\{\s*[#^/]?\s*([a-z][a-z0-9_]*)\s*\}\}/g)].map((mark) => mark[1] ?? ""))];
}
