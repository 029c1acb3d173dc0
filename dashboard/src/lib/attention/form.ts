/** A field of a form that an MCP server asks for. `values` are the choices of a field that has them. */
export interface FormField {
  name: string;
  label: string;
  about: string;
  type: "text" | "number" | "integer" | "boolean" | "choice" | "choices";
  /** The kind of text: `email`, `uri`, `date` or `date-time`. */
  format: string;
  values: { value: string; label: string }[];
  required: boolean;
  /** The least and greatest number, count of characters, or count of choices. */
  least: number | null;
  most: number | null;
  initial: FormValue;
}

export type FormValue = string | boolean | string[];
export type FormValues = Record<string, FormValue>;

const MAX_FIELDS = 64;
type Json = Record<string, unknown>;

/** The fields of a JSON schema; null for a schema that is not an object of plain fields: then the answer is JSON. */
export function fieldsOf(schema: string): FormField[] | null {
  const parsed = parseObject(schema);
  const properties = parsed === null ? null : asObject(parsed["properties"]);
  if (parsed === null || properties === null) return null;
  const names = Object.keys(properties);
  if (names.length === 0 || names.length > MAX_FIELDS) return null;
  const required = Array.isArray(parsed["required"]) ? (parsed["required"] as unknown[]) : [];
  const fields: FormField[] = [];
  for (const name of names) {
    const field = fieldOf(name, properties[name], required.includes(name));
    if (field === null) return null;
    fields.push(field);
  }
  return fields;
}

function fieldOf(name: string, given: unknown, required: boolean): FormField | null {
  const schema = asObject(given);
  if (schema === null) return null;
  const base = {
    name,
    label: text(schema["title"]) || name,
    about: text(schema["description"]),
    format: text(schema["format"]),
    values: [],
    required,
    least: null,
    most: null,
  };
  const initial = schema["default"];
  switch (schema["type"]) {
    case "boolean":
      return { ...base, type: "boolean", initial: initial === true };
    case "number":
    case "integer":
      return {
        ...base,
        type: schema["type"],
        least: number(schema["minimum"]),
        most: number(schema["maximum"]),
        initial: typeof initial === "number" ? String(initial) : "",
      };
    case "array": {
      const values = choicesOf(asObject(schema["items"]));
      if (values === null) return null;
      const chosen = Array.isArray(initial) ? initial.filter((value) => typeof value === "string") : [];
      return { ...base, type: "choices", values, least: number(schema["minItems"]), most: number(schema["maxItems"]), initial: chosen };
    }
    case "string": {
      const start = text(initial);
      if (hasChoices(schema)) {
        const values = choicesOf(schema);
        return values === null ? null : { ...base, type: "choice", values, initial: start };
      }
      return { ...base, type: "text", least: number(schema["minLength"]), most: number(schema["maxLength"]), initial: start };
    }
    default:
      return null;
  }
}

function hasChoices(schema: Json): boolean {
  return ["enum", "oneOf", "anyOf"].some((key) => schema[key] !== undefined);
}

/** The choices of `enum`, with their names, or of `oneOf` and `anyOf` with `const` and `title`; null without such texts. */
function choicesOf(schema: Json | null): FormField["values"] | null {
  if (schema === null) return null;
  const names = Array.isArray(schema["enumNames"]) ? (schema["enumNames"] as unknown[]) : [];
  if (Array.isArray(schema["enum"])) {
    const values = (schema["enum"] as unknown[]).map((value, at) => ({ value: text(value), label: text(names[at]) || text(value) }));
    return values.every(({ value }) => value !== "") ? values : null;
  }
  const named = schema["oneOf"] ?? schema["anyOf"];
  if (!Array.isArray(named)) return null;
  const values = (named as unknown[]).map((one) => {
    const value = text(asObject(one)?.["const"]);
    return { value, label: text(asObject(one)?.["title"]) || value };
  });
  return values.every(({ value }) => value !== "") ? values : null;
}

/** The values with which a form begins. */
export function initialValues(fields: readonly FormField[]): FormValues {
  return Object.fromEntries(fields.map((field) => [field.name, field.initial]));
}

/** The JSON object of a filled form, or the first problem with a field, as a sentence. */
export function contentOf(fields: readonly FormField[], values: FormValues): { content: string } | { problem: string } {
  const found: [string, unknown][] = [];
  for (const field of fields) {
    const value = values[field.name] ?? field.initial;
    const problem = problemWith(field, value);
    if (problem !== null) return { problem: `${field.label}: ${problem}` };
    const empty = value === "" || (Array.isArray(value) && value.length === 0);
    if (!empty) found.push([field.name, field.type === "number" || field.type === "integer" ? Number(value) : value]);
  }
  return { content: JSON.stringify(Object.fromEntries(found)) };
}

function problemWith(field: FormField, value: FormValue): string | null {
  if (field.type === "boolean") return null;
  if (Array.isArray(value)) {
    const least = value.length === 0 && !field.required ? 0 : Math.max(1, field.least ?? 1);
    if (value.length < least) return `choose at least ${least}.`;
    return field.most !== null && value.length > field.most ? `choose at most ${field.most}.` : null;
  }
  const given = String(value);
  if (given === "") return field.required ? "a value is required." : null;
  if (field.type === "choice") return field.values.some((one) => one.value === given) ? null : "choose one of the values.";
  if (field.type === "text") {
    const { length } = [...given];
    if (field.least !== null && length < field.least) return `at least ${field.least} characters are required.`;
    return field.most !== null && length > field.most ? `at most ${field.most} characters are allowed.` : null;
  }
  const amount = Number(given);
  if (!Number.isFinite(amount)) return "a number is required.";
  if (field.type === "integer" && !Number.isInteger(amount)) return "a whole number is required.";
  if (field.least !== null && amount < field.least) return `the least value is ${field.least}.`;
  return field.most !== null && amount > field.most ? `the greatest value is ${field.most}.` : null;
}

/** The object of a JSON text; null if it is another value or no JSON. */
export function parseObject(json: string): Json | null {
  try {
    return asObject(JSON.parse(json));
  } catch {
    return null;
  }
}

function asObject(value: unknown): Json | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : null;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
