import { type Api, ApiError } from "../api.ts";
import type { AttentionRequest, AttentionRequests } from "../rest.ts";
import type { Decision, Scope } from "./requests.ts";
import type { Result } from "./rows.ts";

const PAGE = 200;
/** How many requests are answered by one request to the server. */
const TOGETHER = 25;

/** An answer as it is sent: `rule` is that of a scope wider than once. */
export interface Given {
  decision: Decision;
  scope: Scope;
  rule: string | null;
}

/** The open requests of the fleet. Raises ApiError. */
export async function listOpen(api: Api): Promise<AttentionRequest[]> {
  const found: AttentionRequest[] = [];
  let after: number | null = null;
  do {
    const query = { state: "open", limit: PAGE, after } as const;
    const page: AttentionRequests = await api.get("/v1/attention", { params: { query } });
    found.push(...page.requests);
    after = page.next_after;
  } while (after !== null);
  return found;
}

/** One request, as it is now. Raises ApiError. */
export function readRequest(api: Api, id: string): Promise<AttentionRequest> {
  return api.get("/v1/attention/{attention_id}", { params: { path: { attention_id: id } } });
}

/** Answers one request, as it was read. Raises ApiError: with status 409 when it is not open any more or was replaced. */
export async function answer(api: Api, row: AttentionRequest, given: Given): Promise<Result[]> {
  const params = { path: { attention_id: row.id } };
  const answered = await api.post("/v1/attention/{attention_id}/answer", { params, body: { digest: row.digest, ...given } });
  return [{ id: row.id, row: answered, problem: "" }];
}

/** Dismisses a note. Raises ApiError: with status 409 when it is not open any more. */
export async function dismiss(api: Api, note: AttentionRequest): Promise<Result[]> {
  const dismissed = await api.post("/v1/attention/{attention_id}/dismiss", { params: { path: { attention_id: note.id } } });
  return [{ id: note.id, row: dismissed, problem: "" }];
}

/**
 * Gives several requests the same answer, a few at a time, so that no request takes long; each has its own result. Raises
 * ApiError when not even the first ones could be sent; later ones have it as their problem.
 */
export async function answerTogether(api: Api, rows: readonly AttentionRequest[], given: Given): Promise<Result[]> {
  const found: Result[] = [];
  for (let from = 0; from < rows.length; from += TOGETHER) {
    const answers = rows.slice(from, from + TOGETHER).map(({ id, digest }) => ({ id, digest, ...given }));
    try {
      const { results } = await api.post("/v1/attention/answers", { body: { answers } });
      found.push(...results.map(({ id, request, problem }) => ({ id, row: request, problem: problem ?? "" })));
    } catch (error) {
      if (!(error instanceof ApiError) || from === 0) throw error;
      found.push(...rows.slice(from).map(({ id }) => ({ id, row: null, problem: error.message })));
      break;
    }
  }
  return found;
}
