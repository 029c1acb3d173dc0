import type { AnswerBody, AttentionRequest, PermissionBody, Question, QuestionBody } from "../rest.ts";
import { parseObject } from "./form.ts";

export type RequestBody = AttentionRequest["body"];
export type RequestKind = AttentionRequest["kind"];
export type Decision = AnswerBody["decision"];
export type Scope = NonNullable<AnswerBody["scope"]>;

export const KIND_LABELS: Record<RequestKind, string> = {
  permission: "Permission",
  question: "Question",
  plan: "Plan",
  elicitation: "Form",
  idle: "Waits for input",
  failed: "Failed",
  limit: "Usage limit",
};

/** The words of the two plain answers. */
export function wordsOf(kind: RequestKind): { yes: string; no: string; because: string } {
  if (kind === "plan") return { yes: "Approve", no: "Send back", because: "Send back with a reason" };
  if (kind === "permission") return { yes: "Allow", no: "Deny", because: "Deny with a reason" };
  if (kind === "elicitation") return { yes: "Send", no: "Decline", because: "Decline with a reason" };
  return { yes: "Answer", no: "Give no answer", because: "Give no answer, with a reason" };
}

/** Where the reason of a denial goes, as a sentence. */
export function reasonGoes(body: RequestBody): string {
  switch ("reason_way" in body ? body.reason_way : "told") {
    case "steered":
      return "The CLI takes no reason with its answer: it goes into the running turn as a text.";
    case "next_command":
      return "The CLI takes no reason with its answer: it is the next command of this conversation, before the others in the queue.";
    default:
      return "The agent reads this reason.";
  }
}

/** The command line of a tool call that runs one; null for other calls. */
export function commandLine(body: PermissionBody): string | null {
  if (body.tool_kind !== "execute") return null;
  const command = parseObject(body.input)?.["command"];
  if (typeof command === "string") return command;
  const words = Array.isArray(command) ? (command as unknown[]) : [];
  return words.length > 0 && words.every((word) => typeof word === "string") ? words.map(quoted).join(" ") : null;
}

/** A word as a shell takes it. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** JSON with indents; a text that is no JSON stays as it is. */
export function indented(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

/** The arguments of a call beside its command line, with indents; "" if there are none. */
export function otherArguments(body: PermissionBody): string {
  const input = parseObject(body.input);
  if (input === null || commandLine(body) === null) return indented(body.input);
  const others = Object.entries(input).filter(([name]) => name !== "command");
  return others.length === 0 ? "" : JSON.stringify(Object.fromEntries(others), null, 2);
}

/** Why an edited input cannot be sent; null if it can. */
export function problemWithInput(input: string): string | null {
  try {
    JSON.parse(input);
    return null;
  } catch (error) {
    return `This is not JSON: ${(error as Error).message}`;
  }
}

/** The rules that the CLI offers to keep itself. A request that was recorded by an earlier release has no list of them. */
export function keptByCli(body: RequestBody | null): PermissionBody["cli_rules"] {
  return body?.kind === "permission" && "cli_rules" in body ? body.cli_rules : [];
}

/** A rule in words: which later calls it allows. */
export function ruleInWords(rule: string): string {
  const at = rule.indexOf("(");
  if (at < 0 || !rule.endsWith(")")) return `Every call of ${rule}`;
  const [tool, pattern] = [rule.slice(0, at), rule.slice(at + 1, -1)];
  if (!pattern.includes("*")) return `Calls of ${tool} with exactly “${pattern}”`;
  const start = pattern.slice(0, -1);
  if (pattern.endsWith("*") && !start.includes("*")) return `Calls of ${tool} that begin with “${start}”`;
  return `Calls of ${tool} that fit “${pattern}”; * stands for any characters`;
}

/** Answers of a question as they are chosen: labels of options, and the free text. */
export interface Draft {
  chosen: string[];
  text: string;
}

export function emptyDrafts(body: QuestionBody): Draft[] {
  return body.questions.map(() => ({ chosen: [], text: "" }));
}

/** The draft after an option was pressed: one of several, or one alone. A free text gives way to a single option. */
export function pressed(question: Question, draft: Draft, label: string): Draft {
  if (!question.multiple) return { chosen: [label], text: "" };
  const chosen = draft.chosen.includes(label) ? draft.chosen.filter((one) => one !== label) : [...draft.chosen, label];
  return { ...draft, chosen };
}

/** The texts that answer a question; empty while it is open. */
function textsOf(question: Question, draft: Draft): string[] {
  const own = question.free_text && draft.text.trim() !== "" ? [draft.text] : [];
  if (!question.multiple) return own.length > 0 ? own : draft.chosen.slice(0, 1);
  const order = question.options.map(({ label }) => label);
  return [...order.filter((label) => draft.chosen.includes(label)), ...own];
}

/** The first question without an answer; -1 when each has one. */
export function openQuestion(body: QuestionBody, drafts: readonly Draft[]): number {
  return body.questions.findIndex((question, at) => textsOf(question, drafts[at] ?? { chosen: [], text: "" }).length === 0);
}

/** The answers to all questions; null while one is open. */
export function answersOf(body: QuestionBody, drafts: readonly Draft[]): Decision | null {
  if (openQuestion(body, drafts) >= 0) return null;
  const answers = body.questions.map((question, at) => ({
    id: question.id,
    answers: textsOf(question, drafts[at] ?? { chosen: [], text: "" }),
  }));
  return { decision: "answers", answers };
}
