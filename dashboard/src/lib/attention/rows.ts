import type { AttentionRequest } from "../rest.ts";

/** Whether this is a note of the control center: nobody waits for it, and it has no answer. */
export function isNote({ kind }: Pick<AttentionRequest, "kind">): boolean {
  return kind === "failed" || kind === "limit";
}

/** The answer to a request: the request as it is now, and why this answer does not count, if it does not. */
export interface Result {
  id: string;
  row: AttentionRequest | null;
  problem: string;
}

/** The tool and the narrowest rule of a call: calls with the same ones may be answered together. Null for other requests. */
export function likeness({ body }: AttentionRequest): string | null {
  if (body.kind !== "permission" || body.rules[0] === undefined) return null;
  return JSON.stringify([body.tool, body.rules[0]]);
}

/** The most requests that the server takes answers to at once. */
const MAX_TOGETHER = 200;

/** The other requests that are like this one, as many as are answered together with it. */
export function alike(row: AttentionRequest, rows: readonly AttentionRequest[]): AttentionRequest[] {
  const like = likeness(row);
  return like === null ? [] : rows.filter((other) => other.id !== row.id && likeness(other) === like).slice(0, MAX_TOGETHER - 1);
}

/** The order of the list: requests before notes, and the oldest first. */
export function oldestFirst(a: AttentionRequest, b: AttentionRequest): number {
  return Number(isNote(a)) - Number(isNote(b)) || Date.parse(a.asked_at) - Date.parse(b.asked_at) || (a.id < b.id ? -1 : 1);
}

/** The request that is shown after this one: the next older first, then from the beginning; null if there is none. */
export function nextOf(rows: readonly AttentionRequest[], row: AttentionRequest, by: 1 | -1 = 1): AttentionRequest | null {
  const others = rows.filter(({ id }) => id !== row.id);
  if (by === 1) return others.find((other) => oldestFirst(row, other) < 0) ?? others[0] ?? null;
  return others.findLast((other) => oldestFirst(row, other) > 0) ?? others.at(-1) ?? null;
}

/** What became of a request, as a sentence; null while it is open. `me` is the id of the person who reads it. */
export function fateOf(row: AttentionRequest, me: string | null): string | null {
  if (row.state === "open") return null;
  if (isNote(row)) return row.reason ?? "";
  if (row.state === "withdrawn") return `Withdrawn: ${row.reason ?? "nothing waits for an answer any more."}`;
  return `${deed(row)} by ${author(row, me)}.${detail(row)}`;
}

function deed(row: AttentionRequest): string {
  switch (row.decision?.decision) {
    case "allow":
      if (row.kind === "plan") return "Approved";
      if (typeof row.decision.cli_rule === "string") return "Allowed for good, by a rule of its CLI,";
      if (row.decision.input !== null) return "Allowed with another input";
      return row.scope === "conversation" ? "Allowed in this conversation" : row.scope === "always" ? "Always allowed" : "Allowed";
    case "deny":
      if (row.kind === "elicitation" && !row.decision.cancel) return "Declined";
      return row.kind === "plan" ? "Sent back" : row.kind === "permission" ? "Denied" : "Left without an answer";
    default:
      return "Answered";
  }
}

function author({ answered_by: id, answered_by_name: name }: AttentionRequest, me: string | null): string {
  return id !== null && id === me ? "you" : (name ?? "somebody");
}

function detail({ decision }: AttentionRequest): string {
  if (decision?.decision === "deny") return decision.reason ? ` Reason: ${decision.reason}` : "";
  if (decision?.decision !== "answers") return "";
  return ` ${decision.answers.flatMap(({ answers }) => answers).join(", ")}`;
}

/** Whether the agent has got the answer, as a sentence; "" if there is nothing to say. */
export function deliveryOf(row: AttentionRequest): string {
  if (row.state !== "answered") return "";
  if (row.delivery === "late") return "It came too late: the agent did not wait for it any more.";
  if (row.delivery === "unknown") return "The command ended before the agent said whether its CLI had the answer.";
  return row.delivery === "waiting" ? "The agent has not taken it yet." : "";
}

