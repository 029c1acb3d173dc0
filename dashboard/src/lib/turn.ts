import type { StepAnswer } from "./rest.ts";

/** A step at its place in the tree: `depth` is 0 for a step of the main conversation. */
export interface PlacedStep {
  step: StepAnswer;
  depth: number;
}

const MAX_DEPTH = 8;

/** The steps as a tree in which each step stands below its parent; the order of siblings is that of their numbers. */
export function placed(steps: Iterable<StepAnswer>): PlacedStep[] {
  const children = new Map<number | null, StepAnswer[]>();
  const known = new Map<number, StepAnswer>();
  for (const step of steps) known.set(step.number, step);
  for (const step of [...known.values()].sort((a, b) => a.number - b.number)) {
    // A parent has a smaller number; a step whose parent has not arrived stands at the top meanwhile.
    const parent = step.parent !== null && step.parent < step.number && known.has(step.parent) ? step.parent : null;
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [step]);
    else siblings.push(step);
  }
  const found: PlacedStep[] = [];
  const open: PlacedStep[] = (children.get(null) ?? []).map((step) => ({ step, depth: 0 })).reverse();
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    found.push(next);
    const depth = Math.min(MAX_DEPTH, next.depth + 1);
    for (const step of (children.get(next.step.number) ?? []).toReversed()) open.push({ step, depth });
  }
  return found;
}

/** The entries of a plan: `done`, `now` or `open`. */
export function planned(step: StepAnswer): { text: string; state: "done" | "now" | "open" }[] {
  const states = { completed: "done", in_progress: "now" } as const;
  return step.text.split("\n").map((line) => {
    const [, status = "", text = line] = /^(\w+): (.*)$/.exec(line) ?? [];
    return { text, state: states[status as keyof typeof states] ?? "open" };
  });
}

/** The arguments of a tool call as a person reads them: the texts alone if there is one, else with their names. */
export function readable(step: StepAnswer): string {
  const given = step.kind === "tool" ? parsed(step.text) : null;
  if (given === null) return step.text;
  const names = Object.keys(given);
  const lines = names.map((name) => {
    const value = given[name];
    const text = typeof value === "string" ? value : JSON.stringify(value);
    return names.length === 1 ? text : `${name}: ${text}`;
  });
  return lines.join("\n");
}

/** A text of a step as it is, with its language: Monaco's name of it, or the path of its file. */
export interface Source {
  label: "Input" | "Result" | "Text";
  text: string;
  language?: string;
  path?: string;
}

/** The names under which the tools of coding CLIs are given the path of a file. */
const PATHS = ["file_path", "notebook_path", "absolute_path", "path"];

/** The texts of a step: a tool's input and result, else what the step says. */
export function sources(step: StepAnswer): Source[] {
  const given = step.kind === "tool" ? parsed(step.text) : null;
  const path = PATHS.map((name) => given?.[name]).find((value) => typeof value === "string");
  const found: Source[] = [];
  if (given !== null) {
    const command = step.tool_kind === "execute" && Object.keys(given).length <= 2 ? given["command"] : undefined;
    if (typeof command === "string") found.push({ label: "Input", text: command, language: "shell" });
    else found.push({ label: "Input", text: JSON.stringify(given, null, 2), language: "javascript" });
  } else if (step.text !== "") {
    found.push({ label: step.kind === "tool" ? "Input" : "Text", text: step.text, language: step.kind === "tool" ? "javascript" : "markdown" });
  }
  if (step.result !== "") {
    const result: Source = { label: "Result", text: step.result };
    if (/^\s*[{[]/.test(step.result) && parsed(step.result) !== null) result.language = "javascript";
    else if (typeof path === "string" && step.tool_kind === "read") result.path = path;
    found.push(result);
  }
  return found;
}

/** The JSON object that a text is; null if it is none, or not whole. */
function parsed(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** A line of a change of a file. */
export interface ChangedLine {
  kind: "added" | "removed";
  text: string;
}

/** The file and the lines that an editing tool call changes; null for other steps, and if its arguments are not whole. */
export function change(step: StepAnswer): { path: string; lines: ChangedLine[] } | null {
  if (step.tool_kind !== "edit") return null;
  const given = parsed(step.text);
  if (given === null) return null;
  const path = given["file_path"] ?? given["notebook_path"];
  if (typeof path !== "string") return null;
  const edits: unknown[] = Array.isArray(given["edits"]) ? (given["edits"] as unknown[]) : [given];
  const lines: ChangedLine[] = [];
  for (const edit of edits) {
    if (typeof edit !== "object" || edit === null) continue;
    const { old_string, new_string, content, new_source } = edit as Record<string, unknown>;
    lines.push(...textLines(old_string, "removed"), ...textLines(new_string ?? content ?? new_source, "added"));
  }
  return lines.length === 0 ? null : { path, lines };
}

function textLines(text: unknown, kind: ChangedLine["kind"]): ChangedLine[] {
  if (typeof text !== "string" || text === "") return [];
  return text.replace(/\n$/, "").split("\n").map((line) => ({ kind, text: line }));
}

/** How long a step took, up to `now` for one that goes on, in ms. */
export function lasted(step: StepAnswer, now: number): number {
  const end = step.ended_at === null ? now : Date.parse(step.ended_at);
  return Math.max(0, end - Date.parse(step.started_at));
}

/** The places in the list of the steps whose title, name, text or result has `text`, in small or capital letters. */
export function matching(steps: readonly PlacedStep[], text: string): number[] {
  const wanted = text.toLowerCase();
  if (wanted === "") return [];
  return steps.flatMap(({ step }, index) =>
    [step.title, step.name, step.text, step.result].some((part) => part.toLowerCase().includes(wanted)) ? [index] : [],
  );
}

/** The match that follows `current` in this direction, round the ends; the first one (last, upwards) without `current`. */
export function nextMatch(matches: readonly number[], current: number | null, direction: 1 | -1): number | null {
  const ahead = matches.filter((index) => current !== null && (index - current) * direction > 0);
  return (direction === 1 ? (ahead[0] ?? matches[0]) : (ahead.at(-1) ?? matches.at(-1))) ?? null;
}

/** The step that a recording shows at this offset: the last one that had begun there; null before the first. */
export function stepAt(steps: Iterable<StepAnswer>, offset: number): StepAnswer | null {
  let found: StepAnswer | null = null;
  for (const step of steps) {
    if (step.output_start <= offset && (found === null || step.number > found.number)) found = step;
  }
  return found;
}
